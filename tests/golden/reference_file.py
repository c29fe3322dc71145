"""A network of ours, pickled as the reference pickles its own: whole, under its names of classes."""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightline.compat.table import TABLE


def write_as_reference(
    path: Path,
    network: nn.Module,
    yaml: Mapping[str, Any],
    *,
    root_class: str = "DetectionModel",
    task: str = "detect",
    **attributes: Any,
) -> None:
    """Write `network` in half precision with `yaml` as its description; no class of ours is named in the file.

    Files of RT-DETR have the task "detect", too. `attributes` are those of the root that files of its task have beside
    the usual ones.
    """
    places = [f"ultralytics.nn.modules.{part}" for part in ("block", "conv", "transformer", "head")]
    names = {new.partition(":")[2]: (place, name) for place in places for name, new in TABLE[place].items()}
    modules: dict[str, types.ModuleType] = {}

    def stand_in(old: str, name: str) -> nn.Module:
        module = modules.setdefault(old, types.ModuleType(old))
        kind = getattr(module, name, None)
        if kind is None:
            kind = type(name, (nn.Module,), {"__module__": old})
            setattr(module, name, kind)
        made = kind.__new__(kind)
        nn.Module.__init__(made)
        return made

    def translated(module: nn.Module) -> nn.Module:
        kind = type(module)
        if kind.__module__.startswith("torch."):
            made = copy.copy(module)
        elif isinstance(module, nn.SiLU):
            return nn.SiLU()
        else:
            made = stand_in(*names.get(kind.__name__, (places[0], kind.__name__)))
            made._parameters, made._buffers = dict(module._parameters), dict(module._buffers)
        made._modules = {name: translated(child) for name, child in module._modules.items()}
        return made

    root = stand_in("ultralytics.nn.tasks", root_class)
    root.model = translated(network.model)
    root.yaml, root.nc, root.names, root.stride = dict(yaml), network.nc, dict(network.names), network.stride
    root.args = {"task": task, "imgsz": 640}
    root.__dict__.update(attributes)
    parents = {".".join(name.split(".")[:end]) for name in modules for end in range(1, name.count(".") + 1)}
    modules |= {name: types.ModuleType(name) for name in parents}
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        torch.save({"epoch": -1, "model": copy.deepcopy(root).half(), "ema": None, "train_args": root.args}, path)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
