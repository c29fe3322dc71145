"""Attention within strips of a feature map, and the blocks of YOLO12 around it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.nn.attention import HeadWidths, to_map
from sightline.nn.conv import Conv
from sightline.nn.csp import C3k
from sightline.nn.routing import join_channels

HEAD_WIDTH = 32  # channels of a head in the published networks
GAMMA = 0.01  # how much of a large block's branch is added at first: as good as nothing


def attend_in_areas(query: Tensor, key: Tensor, value: Tensor, areas: int) -> Tensor:
    """Softmax attention in which a cell looks at the cells of its own area only.

    The N cells are cut, in order, into `areas` runs of equal length. Where N is no multiple, the first N mod `areas`
    runs have one cell more; more areas than cells are as many as there are cells. No cell is padded or masked, so any
    kernel takes any size.

    Args:
        query, key, value: (B, N, heads, d), cells row by row.

    Returns:
        (B, N, heads, d).

    Source: Tian et al., YOLOv12, arXiv:2502.12524, section 3.1.
    """
    length, longer = divmod(query.shape[1], areas)
    if not longer:
        return _attend_in_runs(query, key, value, areas)
    cut = longer * (length + 1)
    seen = _attend_in_runs(query[:, :cut], key[:, :cut], value[:, :cut], longer)
    if not length:
        return seen
    rest = _attend_in_runs(query[:, cut:], key[:, cut:], value[:, cut:], areas - longer)
    return torch.cat([seen, rest], 1)


def _attend_in_runs(query: Tensor, key: Tensor, value: Tensor, runs: int) -> Tensor:
    """The same for N that is a multiple of `runs`: runs are further images of a batch."""
    cells = (each.unflatten(1, (runs, -1)).flatten(0, 1).transpose(1, 2) for each in (query, key, value))
    seen = F.scaled_dot_product_attention(*cells)  # (B · runs, heads, N / runs, d)
    return seen.transpose(1, 2).unflatten(0, (-1, runs)).flatten(1, 2)


class AreaAttention(nn.Module):
    """Multi-head self-attention in horizontal strips, with a depthwise convolution in place of a position code.

    Shape: (B, C, H, W) → (B, C, H, W). Costs 1 / `areas` of attention over the whole map; the convolution crosses the
    borders. With one area every cell looks at all cells. H · W need not be a multiple of `areas`, see
    `attend_in_areas`.

    Source: Tian et al., YOLOv12, arXiv:2502.12524, section 3.1.
    """

    def __init__(self, channels: int, *, heads: int, areas: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.areas = areas
        self.head_dim = channels // heads
        self.qkv = Conv(channels, 3 * channels, 1, activation=False)
        self.proj = Conv(channels, channels, 1, activation=False)
        self.pe = Conv(channels, channels, 7, groups=channels, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        # As in `Attention`: the channels of a head lie together, and go last before anything is flattened.
        tokens = self.qkv(x).permute(0, 2, 3, 1).flatten(1, 2)  # (B, N, heads · 3 d)
        query, key, value = tokens.unflatten(2, (self.heads, -1)).chunk(3, 3)  # (B, N, heads, d) each
        seen = attend_in_areas(query, key, value, self.areas)
        return self.proj(to_map(seen, height, width) + self.pe(to_map(value, height, width)))

    def multiply_adds(self, cells: int) -> int:
        """Of queries with keys and of weights with values, for one image of so many cells."""
        return 2 * self.heads * self.head_dim * cells * cells // self.areas

    @property
    def head_widths(self) -> HeadWidths:
        return HeadWidths(self.head_dim, self.head_dim)


class AreaBlock(nn.Module):
    """Area attention, then a two-layer feed-forward network of 1×1 convolutions, each added to its input.

    Shape: (B, C, H, W) → (B, C, H, W).
    """

    def __init__(self, channels: int, *, heads: int, mlp_ratio: float = 2.0, areas: int = 1) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        self.attn = AreaAttention(channels, heads=heads, areas=areas)
        self.mlp = nn.Sequential(Conv(channels, hidden, 1), Conv(hidden, channels, 1, activation=False))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Narrow normal weights in all convolutions, as attention is usually begun."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


class A2C2f(nn.Module):
    """A chain of pairs of area-attention blocks, or of C3k blocks; every link of the chain reaches the output.

    Shape: (B, C_in, H, W) → (B, C_out, H, W).

    Source: Tian et al., YOLOv12, arXiv:2502.12524, section 3.2 (residual efficient layer aggregation).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        repeats: int = 1,
        attention: bool = True,
        areas: int = 1,
        residual: bool = False,
        mlp_ratio: float = 2.0,
        expansion: float = 0.5,
    ) -> None:
        """`areas`, `residual` and `mlp_ratio` count with `attention` only.

        Raises:
            ValueError: attention cannot be had with these numbers.
        """
        super().__init__()
        hidden = int(out_channels * expansion)
        if attention:
            _check(in_channels, out_channels, hidden, areas, residual)
        # Published weights have it for the largest sizes only, whose training it keeps stable.
        self.gamma = nn.Parameter(torch.full((out_channels,), GAMMA)) if attention and residual else None
        self.cv1 = Conv(in_channels, hidden, 1)
        self.cv2 = Conv((1 + repeats) * hidden, out_channels, 1)

        def link() -> nn.Module:
            if not attention:
                return C3k(hidden, hidden, repeats=2)
            heads = hidden // HEAD_WIDTH
            return nn.Sequential(*(AreaBlock(hidden, heads=heads, mlp_ratio=mlp_ratio, areas=areas) for _ in range(2)))

        self.m = nn.ModuleList(link() for _ in range(repeats))

    def reset_parameters(self) -> None:
        if self.gamma is not None:
            nn.init.constant_(self.gamma, GAMMA)

    def forward(self, x: Tensor) -> Tensor:
        links = [self.cv1(x)]
        for block in self.m:
            links.append(block(links[-1]))
        y = self.cv2(join_channels(links))
        return y if self.gamma is None else x + self.gamma.view(1, -1, 1, 1) * y


def _check(in_channels: int, out_channels: int, hidden: int, areas: int, residual: bool) -> None:
    if hidden < HEAD_WIDTH or hidden % HEAD_WIDTH:
        raise ValueError(
            f"A2C2f with attention needs a hidden width that is a multiple of {HEAD_WIDTH}, but channels · expansion "
            f"gives {hidden}"
        )
    if isinstance(areas, bool) or not isinstance(areas, int) or areas < 1:
        raise ValueError(f"A2C2f has areas {areas!r}; give a whole number of 1 or more")
    if residual and in_channels != out_channels:
        raise ValueError(
            f"A2C2f with residual keeps its width, but gets {in_channels} channels and shall give {out_channels}"
        )
