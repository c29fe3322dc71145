"""What a run changes in the process, set at its start and put back at its end."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator

import numpy as np
import torch

from sightline.backends import attention_kernel


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch. Samples do not depend on these: they have a generator each (decision 3)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextlib.contextmanager
def run_environment(*, seed: int, deterministic: bool) -> Iterator[None]:
    """Seeds, deterministic kernels and one OpenCV thread while a run lasts; what `attention.py` switches comes back."""
    import cv2

    opencv_threads = cv2.getNumThreads()
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    # OpenCV's own thread pool would compete with torch's for the same cores.
    cv2.setNumThreads(1)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    seed_everything(seed)
    try:
        with attention_kernel.restored():
            yield
    finally:
        cv2.setNumThreads(opencv_threads)
        torch.use_deterministic_algorithms(was_deterministic, warn_only=warned_only)
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
