"""Parts of a network that are not for half precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn


def without_autocast(like: Tensor) -> AbstractContextManager[object]:
    """Within this, operations on the device of `like` run in the types of their inputs."""
    # The meta device, on which shapes are worked out, has no autocast, and says so with an error.
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)


def in_full(module: nn.Module, x: Tensor) -> Tensor:
    """The module's output computed in the type of its weights, whatever autocast is on.

    For scores that are sorted and boxes that are refined: bfloat16 has 256 values between 1 and 2, so scores would tie
    and boxes move by half a percent of their size, in every layer anew.
    """
    with without_autocast(x):
        return module(x.to(next(module.parameters()).dtype))
