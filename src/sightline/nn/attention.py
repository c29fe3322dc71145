"""Self-attention over the cells of a feature map, and the blocks around it."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from sightline.nn.conv import Conv
from sightline.nn.routing import join_channels


class HeadWidths(NamedTuple):
    """Channels of one head: what decides whether a kernel can compute an attention.

    A module that calls `scaled_dot_product_attention` shows them as `head_widths`.
    """

    key: int  # and query
    value: int
    masked: bool = False  # whether calls in training have an `attn_mask`


class Attention(nn.Module):
    """Multi-head self-attention with keys narrower than values and a depthwise convolution in place of a position code.

    Shape: (B, C, H, W) → (B, C, H, W). Every cell looks at all N = H · W cells.

    Source: Vaswani et al., Attention Is All You Need, arXiv:1706.03762; Wang et al., YOLOv10, arXiv:2405.14458
    (partial self-attention).
    """

    def __init__(self, channels: int, *, heads: int, key_ratio: float = 0.5) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = channels // heads
        self.key_dim = int(self.head_dim * key_ratio)
        self.qkv = Conv(channels, channels + 2 * self.key_dim * heads, 1, activation=False)
        self.proj = Conv(channels, channels, 1, activation=False)
        self.pe = Conv(channels, channels, 3, groups=channels, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        # In published weights the channels of a head lie together: its queries, its keys, its values. Channels go last
        # before anything is flattened, so that gradients come back channels last, too.
        tokens = self.qkv(x).permute(0, 2, 3, 1).flatten(1, 2)  # (B, N, heads · (2 key + value))
        heads = tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, 2 key + value)
        query, key, value = heads.split([self.key_dim, self.key_dim, self.head_dim], dim=3)
        seen = F.scaled_dot_product_attention(query, key, value)  # (B, heads, N, head_dim)
        seen, value = seen.transpose(1, 2), value.transpose(1, 2)
        return self.proj(to_map(seen, height, width) + self.pe(to_map(value, height, width)))

    def multiply_adds(self, cells: int) -> int:
        """Of queries with keys and of weights with values, for one image of so many cells."""
        return self.heads * (self.key_dim + self.head_dim) * cells * cells

    @property
    def head_widths(self) -> HeadWidths:
        return HeadWidths(self.key_dim, self.head_dim)


class PSABlock(nn.Module):
    """Attention, then a two-layer feed-forward network of 1×1 convolutions, each added to its input.

    Shape: (B, C, H, W) → (B, C, H, W).
    """

    def __init__(self, channels: int, *, heads: int) -> None:
        super().__init__()
        self.attn = Attention(channels, heads=heads)
        self.ffn = nn.Sequential(Conv(channels, channels * 2, 1), Conv(channels * 2, channels, 1, activation=False))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.ffn(x)


class C2PSA(nn.Module):
    """Attention on one half of the channels; the other half passes by.

    Shape: (B, C, H, W) → (B, C, H, W).

    Source: Wang et al., YOLOv10, arXiv:2405.14458, section 3.2 (partial self-attention).
    """

    def __init__(self, in_channels: int, out_channels: int, *, repeats: int = 1, expansion: float = 0.5) -> None:
        """Raises ValueError if the two widths differ: the block keeps its width."""
        super().__init__()
        if in_channels != out_channels:
            raise ValueError(f"C2PSA keeps its width, but gets {in_channels} channels and shall give {out_channels}")
        hidden = int(in_channels * expansion)
        self.cv1 = Conv(in_channels, 2 * hidden, 1)
        self.cv2 = Conv(2 * hidden, in_channels, 1)
        self.m = nn.Sequential(*(PSABlock(hidden, heads=heads_for(hidden)) for _ in range(repeats)))

    def forward(self, x: Tensor) -> Tensor:
        passing, attending = self.cv1(x).chunk(2, 1)
        return self.cv2(join_channels([passing, self.m(attending)]))


def heads_for(channels: int) -> int:
    """One head per 64 channels, at least one."""
    return max(channels // 64, 1)


def to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """(B, N, heads, d) → (B, heads · d, H, W), channels last in memory: the layout that convolutions run in."""
    return tokens.flatten(2).transpose(1, 2).unflatten(2, (height, width))
