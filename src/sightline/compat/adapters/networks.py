"""Networks, devices and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sightline.backends import device as devices
from sightline.train.environment import seed_everything


def select_device(device: object = "", batch: int = 0, newline: bool = False, verbose: bool = True) -> torch.device:
    """The device behind a text or number; the other arguments concerned the line that was printed."""
    return device if isinstance(device, torch.device) else devices.select_device(device)


def init_seeds(seed: int = 0, deterministic: bool = False) -> None:
    """Seed Python, NumPy and torch. A run does that by itself, and puts `deterministic` back at its end."""
    seed_everything(seed)
    torch.use_deterministic_algorithms(deterministic, warn_only=True)


def is_parallel(model: nn.Module) -> bool:
    """Whether the network is wrapped to run on several devices."""
    return isinstance(model, (nn.parallel.DataParallel, nn.parallel.DistributedDataParallel))


def intersect_dicts(da: Mapping[str, Any], db: Mapping[str, Any], exclude: Sequence[str] = ()) -> dict[str, Any]:
    """Entries of the first state dict whose name and shape the second has, without names that hold one of `exclude`."""
    return {
        name: value
        for name, value in da.items()
        if name in db and value.shape == db[name].shape and not any(part in name for part in exclude)
    }


def get_num_params(model: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in model.parameters())
