"""Convolutions that train as two branches and run as one.

Source: Ding et al., RepVGG, arXiv:2101.03697.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.nn.conv import Conv, SiLU


class RepConv(nn.Module):
    """A 3×3 and a 1×1 convolution, each with its norm, added up; one 3×3 convolution once folded.

    Shape: (B, C_in, H, W) → (B, C_out, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(in_channels, out_channels, 3, activation=False)
        self.conv2 = Conv(in_channels, out_channels, 1, activation=False)
        self.act = SiLU()

    def forward(self, x: Tensor) -> Tensor:
        folded = getattr(self, "conv", None)
        return self.act(self.conv1(x) + self.conv2(x) if folded is None else folded(x))

    @property
    def foldable(self) -> bool:
        return hasattr(self, "conv1") and self.conv1.foldable

    @torch.no_grad()
    def fold(self) -> None:
        """One convolution in the place of both, in place. Only right for inference; folding twice changes nothing."""
        if not self.foldable:
            return
        self.conv1.fold()
        self.conv2.fold()
        conv, point = self.conv1.conv, self.conv2.conv
        conv.weight.add_(F.pad(point.weight, (1, 1, 1, 1)))  # a 1×1 kernel is a 3×3 one of zeros around it
        conv.bias.add_(point.bias)
        del self.conv1, self.conv2
        self.conv = conv


class RepC3(nn.Module):
    """`RepConv`s on one path, a 1×1 convolution on the other, added up.

    Shape: (B, C_in, H, W) → (B, C_out, H, W).

    Source: Lv et al., RT-DETR, arXiv:2304.08069, figure 5 (the fusion block).
    """

    def __init__(self, in_channels: int, out_channels: int, *, repeats: int = 3, expansion: float = 1.0) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        self.cv1 = Conv(in_channels, hidden, 1)
        self.cv2 = Conv(in_channels, hidden, 1)
        self.m = nn.Sequential(*(RepConv(hidden, hidden) for _ in range(repeats)))
        self.cv3 = Conv(hidden, out_channels, 1) if hidden != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(self.m(self.cv1(x)) + self.cv2(x))
