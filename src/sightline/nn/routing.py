"""Joining feature maps, as a function and as a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def join_channels(maps: Sequence[Tensor]) -> Tensor:
    """List of (B, C_i, H, W) → (B, ΣC_i, H, W), as `torch.cat`, with gradients that lie dense in memory.

    A slice of the channels of a channels-last map is full of gaps, and torch's own backward hands such slices on: the
    backward of SiLU takes eight times as long on them as on a copy, and the copy is nearly free.
    """
    if torch.is_grad_enabled() and any(each.requires_grad for each in maps):
        return _JoinChannels.apply(*maps)
    return torch.cat(list(maps), 1)  # and for exporters, which do not know the function below


class _JoinChannels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> Tensor:
        ctx.widths = [each.shape[1] for each in maps]
        ctx.dtypes = [each.dtype for each in maps]
        return torch.cat(maps, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        pieces = gradient.split(ctx.widths, 1)
        if gradient.is_contiguous(memory_format=torch.channels_last):
            pieces = tuple(each.contiguous(memory_format=torch.channels_last) for each in pieces)
        return tuple(each.to(dtype) for each, dtype in zip(pieces, ctx.dtypes, strict=True))


class Concat(nn.Module):
    """Join feature maps in the order given.

    Shape: list of (B, C_i, H, W) → (B, ΣC_i, H, W) for axis 1.
    """

    def __init__(self, axis: int = 1) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return join_channels(maps) if self.axis == 1 else torch.cat(list(maps), self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"
