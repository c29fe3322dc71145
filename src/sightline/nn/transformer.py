"""The transformer's parts: attention over sequences, a multi-layer perceptron, an encoder layer over a map.

Sources: Vaswani et al., Attention Is All You Need, arXiv:1706.03762; Lv et al., RT-DETR, arXiv:2304.08069.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.nn.attention import HeadWidths

TEMPERATURE = 10_000.0  # of the position code: the longest wave is this many times the shortest


class MultiheadAttention(nn.Module):
    """`nn.MultiheadAttention`, batch first and without dropout, through `scaled_dot_product_attention` alone.

    The same tensors under the same names, so that published weights fit. torch's own class chooses between paths in
    ways that exporters and training treat differently.
    """

    def __init__(self, width: int, heads: int, *, masked: bool = False) -> None:
        """`masked`: whether calls in training have a mask. Raises ValueError if the width cannot be shared out evenly
        among the heads."""
        super().__init__()
        if width % heads:
            raise ValueError(
                f"{width} channels cannot be shared out among {heads} heads; make it a multiple of {heads}"
            )
        self.width, self.heads, self.masked = width, heads, masked
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.reset_parameters()

    @property
    def head_widths(self) -> HeadWidths:
        return HeadWidths(self.width // self.heads, self.width // self.heads, self.masked)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.in_proj_weight)
        self.in_proj_bias.zero_()
        self.out_proj.bias.zero_()

    def forward(self, query_and_key: Tensor, value: Tensor, blocked: Tensor | None = None) -> Tensor:
        """
        Args:
            query_and_key: (B, N, width), the sequence with its position code.
            value: (B, N, width), without.
            blocked: (N, N) bool, True where the row's element must not look at the column's; None for nowhere.

        Returns:
            (B, N, width).
        """
        split = 2 * self.width
        both = F.linear(query_and_key, self.in_proj_weight[:split], self.in_proj_bias[:split])
        query, key = both.chunk(2, dim=-1)
        values = F.linear(value, self.in_proj_weight[split:], self.in_proj_bias[split:])
        query, key, values = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (query, key, values))
        seen = F.scaled_dot_product_attention(query, key, values, None if blocked is None else ~blocked)
        return self.out_proj(seen.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Linear layers with ReLU between them: (..., inputs) → (..., outputs)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, count: int) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * (count - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x), inplace=True)
        return self.layers[-1](x)


class AIFI(nn.Module):
    """One encoder layer, norms after the sums, in which every cell of a map looks at all others.

    Shape: (B, C, H, W) → (B, C, H, W).

    Source: Lv et al., RT-DETR, arXiv:2304.08069 (attention-based intra-scale feature interaction).
    """

    def __init__(self, in_channels: int, hidden: int = 2048, heads: int = 8) -> None:
        """`hidden` is the width of the feed-forward part. Raises ValueError if C is no multiple of 4 and of `heads`."""
        super().__init__()
        if in_channels % 4:
            raise ValueError(f"{in_channels} channels cannot hold the position code; make it a multiple of 4")
        self.out_channels = in_channels
        self.ma = MultiheadAttention(in_channels, heads)
        self.fc1 = nn.Linear(in_channels, hidden)
        self.fc2 = nn.Linear(hidden, in_channels)
        self.norm1 = nn.LayerNorm(in_channels)
        self.norm2 = nn.LayerNorm(in_channels)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        tokens = to_tokens(x)
        code = position_code(height, width, self.out_channels, device=x.device).to(x.dtype)
        tokens = self.norm1(tokens + self.ma(tokens + code, tokens))
        tokens = self.norm2(tokens + self.fc2(F.gelu(self.fc1(tokens))))
        return tokens.transpose(1, 2).unflatten(2, (height, width))


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) → (B, H · W, C), row by row.

    Channels go last before anything is flattened. The other way round a gradient of one image comes back with a stride
    of its batch axis from which torch's BatchNorm (2.13, CPU) computes a wrong gradient.
    """
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def position_code(height: int, width: int, channels: int, *, device: torch.device | None = None) -> Tensor:
    """(H · W, channels) float32, row by row: sines and cosines of the row, then of the column, a quarter each."""
    quarter = channels // 4
    waves = TEMPERATURE ** -(torch.arange(quarter, dtype=torch.float32, device=device) / quarter)  # (quarter,)
    rows = torch.arange(height, dtype=torch.float32, device=device)[:, None] * waves  # (H, quarter)
    columns = torch.arange(width, dtype=torch.float32, device=device)[:, None] * waves  # (W, quarter)
    rows = torch.cat([rows.sin(), rows.cos()], 1)[:, None].expand(-1, width, -1)  # (H, W, 2 · quarter)
    columns = torch.cat([columns.sin(), columns.cos()], 1)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], 2).flatten(0, 1)
