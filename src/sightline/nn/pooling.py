"""Spatial pyramid pooling."""

from __future__ import annotations

from torch import Tensor, nn

from sightline.nn.conv import Conv
from sightline.nn.routing import join_channels


class SPPF(nn.Module):
    """The map and its repeatedly pooled copies side by side: context at growing range for little work.

    Shape: (B, C_in, H, W) → (B, C_out, H, W).

    Source: He et al., Spatial Pyramid Pooling, arXiv:1406.4729, with one small pool applied `pools` times in a row
    (two 5×5 pools see what one 9×9 pool sees).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 5,
        pools: int = 3,
        shortcut: bool = False,
        activation: bool = True,
    ) -> None:
        """`activation` is that of `cv1` alone: none in YOLO26, SiLU in its predecessors. Weights do not show which."""
        super().__init__()
        hidden = in_channels // 2
        self.cv1 = Conv(in_channels, hidden, 1, activation=activation)
        self.cv2 = Conv(hidden * (pools + 1), out_channels, 1)
        self.m = nn.MaxPool2d(kernel, stride=1, padding=kernel // 2)
        self.pools = pools
        self.residual = shortcut and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.cv1(x)]
        for _ in range(self.pools):
            maps.append(self.m(maps[-1]))
        y = self.cv2(join_channels(maps))
        return x + y if self.residual else y
