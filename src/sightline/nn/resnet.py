"""ResNet as RT-DETR has it: the convolutions use the network's activation (SiLU), only the sums ReLU.

Source: He et al., Deep Residual Learning, arXiv:1512.03385.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sightline.nn.conv import Conv


class ResNetBlock(nn.Module):
    """Narrow, 3×3, four times as wide; added to the input, which is projected where its shape differs.

    Shape: (B, C_in, H, W) → (B, 4 · width, H / stride, W / stride).
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = self.expansion * width
        self.cv1 = Conv(in_channels, width, 1)
        self.cv2 = Conv(width, width, 3, stride)
        self.cv3 = Conv(width, out_channels, 1, activation=False)
        same = stride == 1 and in_channels == out_channels
        # In published weights the projection is the only entry of a sequence.
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(Conv(in_channels, out_channels, 1, stride, activation=False))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.cv3(self.cv2(self.cv1(x))) + self.shortcut(x))


class ResNetLayer(nn.Module):
    """One stage: a row of blocks, of which the first may halve the map; or, as the first layer of all, the stem.

    Shape: (B, C_in, H, W) → (B, 4 · width, H / stride, W / stride); the stem gives (B, width, H / 4, W / 4).
    """

    def __init__(self, in_channels: int, width: int, *, stride: int = 1, first: bool = False, count: int = 1) -> None:
        super().__init__()
        self.out_channels = width if first else ResNetBlock.expansion * width
        if first:
            self.layer = nn.Sequential(Conv(in_channels, width, 7, 2), nn.MaxPool2d(3, stride=2, padding=1))
        else:
            widths = [in_channels, *[self.out_channels] * (count - 1)]
            strides = [stride, *[1] * (count - 1)]
            self.layer = nn.Sequential(
                *(ResNetBlock(each, width, step) for each, step in zip(widths, strides, strict=True))
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)
