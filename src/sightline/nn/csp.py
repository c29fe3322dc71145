"""Residual bottlenecks, and the cross-stage-partial blocks that hold them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from sightline.nn.attention import PSABlock, heads_for
from sightline.nn.conv import Conv
from sightline.nn.routing import join_channels


class Bottleneck(nn.Module):
    """Two convolutions, added to the input when that is wanted and the widths allow it.

    Shape: (B, C_in, H, W) → (B, C_out, H, W).

    Source: He et al., Deep Residual Learning, arXiv:1512.03385.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        shortcut: bool = True,
        kernels: tuple[int, int] = (3, 3),
        expansion: float = 0.5,
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        self.cv1 = Conv(in_channels, hidden, kernels[0])
        self.cv2 = Conv(hidden, out_channels, kernels[1])
        self.residual = shortcut and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.residual else y


class C3(nn.Module):
    """Bottlenecks on one path, a 1×1 convolution on the other, then both joined.

    Shape: (B, C_in, H, W) → (B, C_out, H, W).

    Source: Wang et al., CSPNet, arXiv:1911.11929.
    """

    kernels: tuple[int, int] = (1, 3)

    def __init__(
        self, in_channels: int, out_channels: int, *, repeats: int = 1, shortcut: bool = True, expansion: float = 0.5
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        self.cv1 = Conv(in_channels, hidden, 1)
        self.cv2 = Conv(in_channels, hidden, 1)
        self.cv3 = Conv(2 * hidden, out_channels, 1)
        self.m = nn.Sequential(
            *(
                Bottleneck(hidden, hidden, shortcut=shortcut, kernels=self.kernels, expansion=1.0)
                for _ in range(repeats)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(join_channels([self.m(self.cv1(x)), self.cv2(x)]))


class C3k(C3):
    """`C3` with 3×3 kernels throughout."""

    kernels = (3, 3)


class LinkChain(nn.Module):
    """Half of the channels go through a chain of blocks; every link of the chain reaches the output.

    Shape: (B, C_in, H, W) → (B, C_out, H, W).

    Source: CSPNet, arXiv:1911.11929, with the dense outputs of Wang et al., Designing Network Design Strategies
    Through Gradient Path Analysis (ELAN), arXiv:2211.04800.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        repeats: int,
        expansion: float,
        link: Callable[[int], nn.Module],
    ) -> None:
        """`link` makes one block of the chain from its width; it keeps that width."""
        super().__init__()
        self.hidden = int(out_channels * expansion)
        self.cv1 = Conv(in_channels, 2 * self.hidden, 1)
        self.cv2 = Conv((2 + repeats) * self.hidden, out_channels, 1)
        self.m = nn.ModuleList(link(self.hidden) for _ in range(repeats))

    def forward(self, x: Tensor) -> Tensor:
        links = list(self.cv1(x).chunk(2, 1))
        for block in self.m:
            links.append(block(links[-1]))
        return self.cv2(join_channels(links))


class C2f(LinkChain):
    """A chain of full-width bottlenecks."""

    def __init__(
        self, in_channels: int, out_channels: int, *, repeats: int = 1, shortcut: bool = False, expansion: float = 0.5
    ) -> None:
        def link(width: int) -> nn.Module:
            return Bottleneck(width, width, shortcut=shortcut, expansion=1.0)

        super().__init__(in_channels, out_channels, repeats=repeats, expansion=expansion, link=link)


class C3k2(LinkChain):
    """A chain of narrow bottlenecks, of C3k blocks, or of bottlenecks with attention (which wins over `c3k`)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        repeats: int = 1,
        c3k: bool = False,
        expansion: float = 0.5,
        attention: bool = False,
        shortcut: bool = True,
    ) -> None:
        def link(width: int) -> nn.Module:
            if attention:
                bottleneck = Bottleneck(width, width, shortcut=shortcut)
                return nn.Sequential(bottleneck, PSABlock(width, heads=heads_for(width)))
            if c3k:
                return C3k(width, width, repeats=2, shortcut=shortcut)
            return Bottleneck(width, width, shortcut=shortcut)

        super().__init__(in_channels, out_channels, repeats=repeats, expansion=expansion, link=link)
