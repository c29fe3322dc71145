"""What this machine has, for `sightline checks` and for reports of mistakes."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys

import psutil
import torch

from sightline import __version__

LIBRARIES = ("numpy", "opencv-python-headless", "opencv-python", "pydantic", "scipy", "faster-coco-eval", "safetensors")


def describe() -> dict[str, str]:
    """Subject → value, in the order to print."""
    memory = psutil.virtual_memory()
    return {
        "sightline": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "processor": f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads",
        "memory": f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GB free",
        "torch": torch.__version__,
        "devices": _devices(),
        "libraries": ", ".join(_installed()),
    }


def _devices() -> str:
    found = ["cpu"]
    if torch.backends.mps.is_available():
        found.append("mps")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(f"{index}: {properties.name}, {properties.total_memory / 2**30:.0f} GB")
    return "; ".join(found)


def _installed() -> list[str]:
    versions = []
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
