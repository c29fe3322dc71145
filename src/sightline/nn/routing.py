"""Layers without weights that join or resize feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Concat(nn.Module):
    """Join feature maps in the order given.

    Shape: list of (B, C_i, H, W) → (B, ΣC_i, H, W) for axis 1.
    """

    def __init__(self, axis: int = 1) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(maps), self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"
