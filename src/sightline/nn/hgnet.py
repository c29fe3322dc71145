"""HGNet: wide blocks in which the output of every convolution reaches the end. The backbone of rtdetr-l and -x.

Source: PP-HGNet and PP-HGNetV2 of PaddleClas; used by Lv et al., DETRs Beat YOLOs on Real-time Object Detection
(RT-DETR), arXiv:2304.08069.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sightline.nn.conv import Conv, DWConv
from sightline.nn.routing import join_channels


def relu() -> nn.Module:
    """For the fresh output of a norm or a convolution, which nobody else holds."""
    return nn.ReLU(inplace=True)


class LightConv(nn.Module):
    """A 1×1 convolution without activation, then a depthwise one.

    Shape: (B, C_in, H, W) → (B, C_out, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, act: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = Conv(in_channels, out_channels, 1, activation=False)
        self.conv2 = DWConv(out_channels, out_channels, kernel, activation=relu() if act is None else act)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class HGStem(nn.Module):
    """The first layers: down to a quarter of the size, partly by convolutions, partly by the largest of 2×2 values.

    Shape: (B, C_in, H, W) → (B, C_out, H / 4, W / 4).
    """

    def __init__(self, in_channels: int, middle: int, channels: int) -> None:
        super().__init__()
        self.out_channels = channels
        self.stem1 = Conv(in_channels, middle, 3, 2, activation=relu())
        self.stem2a = Conv(middle, middle // 2, 2, 1, 0, activation=relu())
        self.stem2b = Conv(middle // 2, middle, 2, 1, 0, activation=relu())
        self.stem3 = Conv(2 * middle, middle, 3, 2, activation=relu())
        self.stem4 = Conv(middle, channels, 1, activation=relu())
        self.pool = nn.MaxPool2d(2, stride=1, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        x = _one_more(self.stem1(x))
        convolved = self.stem2b(_one_more(self.stem2a(x)))
        return self.stem4(self.stem3(join_channels([self.pool(x), convolved])))


class HGBlock(nn.Module):
    """A chain of convolutions whose every link, and the input, is joined and squeezed to the output width.

    Shape: (B, C_in, H, W) → (B, C_out, H, W).

    Source: as the file; the squeeze is that of Lee et al., CenterMask (one-shot aggregation), arXiv:1911.06667.
    """

    def __init__(
        self,
        in_channels: int,
        middle: int,
        channels: int,
        kernel: int = 3,
        *,
        repeats: int = 6,
        light: bool = False,
        shortcut: bool = False,
    ) -> None:
        """
        Args:
            in_channels: C_in.
            middle: width of the chain.
            channels: C_out.
            kernel: of the chain.
            repeats: its length.
            light: `LightConv` in it instead of `Conv`.
            shortcut: add the input, where it is as wide as the output.
        """
        super().__init__()
        self.out_channels = channels
        widths = [in_channels, *[middle] * (repeats - 1)]
        act = relu()  # one for all of them, as published counts of layers have it
        self.m = nn.ModuleList(
            LightConv(width, middle, kernel, act) if light else Conv(width, middle, kernel, activation=act)
            for width in widths
        )
        self.sc = Conv(in_channels + repeats * middle, channels // 2, 1, activation=act)
        self.ec = Conv(channels // 2, channels, 1, activation=act)
        self.residual = shortcut and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        links = [x]
        for link in self.m:
            links.append(link(links[-1]))
        y = self.ec(self.sc(join_channels(links)))
        return y + x if self.residual else y


def _one_more(x: Tensor) -> Tensor:
    """A column of zeros on the right and a row at the bottom, for the 2×2 windows of the last cells."""
    return F.pad(x, (0, 1, 0, 1))
