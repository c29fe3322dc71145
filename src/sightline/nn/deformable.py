"""Attention that samples a few learnt places around a box instead of looking everywhere; and the decoder layer with it.

In plain PyTorch: what `F.grid_sample` can do an exporter can write, and no kernel has to be compiled.

Source: Zhu et al., Deformable DETR, arXiv:2010.04159.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.nn.precision import without_autocast
from sightline.nn.transformer import MultiheadAttention

Shapes = Sequence[tuple[int, int]]  # height and width of each level


class MSDeformAttn(nn.Module):
    """Each query reads `points` places per level and head, near its box, and weighs what it finds.

    Source: Deformable DETR, arXiv:2010.04159, section 4.1 (multi-scale deformable attention, boxes as references).
    """

    def __init__(self, width: int = 256, *, levels: int = 3, heads: int = 8, points: int = 4) -> None:
        """Raises ValueError if the width cannot be shared out evenly among the heads."""
        super().__init__()
        if width % heads:
            raise ValueError(
                f"{width} channels cannot be shared out among {heads} heads; make it a multiple of {heads}"
            )
        self.levels, self.heads, self.points = levels, heads, points
        self.sampling_offsets = nn.Linear(width, heads * levels * points * 2)
        self.attention_weights = nn.Linear(width, heads * levels * points)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """At first every head looks in a direction of its own, its points one behind the other, weighing the same."""
        angles = torch.arange(self.heads, dtype=torch.float32) * (2 * math.pi / self.heads)
        directions = torch.stack([angles.cos(), angles.sin()], -1)  # (heads, 2)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1, dtype=torch.float32)[:, None]  # (points, 1)
        offsets = (directions[:, None, None] * steps).expand(-1, self.levels, -1, -1)  # (heads, levels, points, 2)
        self.sampling_offsets.weight.zero_()
        self.sampling_offsets.bias.copy_(offsets.reshape(-1))
        self.attention_weights.weight.zero_()
        self.attention_weights.bias.zero_()
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            projection.bias.zero_()

    def forward(self, query: Tensor, boxes: Tensor, tokens: Tensor, shapes: Shapes) -> Tensor:
        """
        Args:
            query: (B, Q, width).
            boxes: (B, Q, 4) xywh in [0, 1], where each query looks; float32 at least.
            tokens: (B, S, width), all levels, row by row.
            shapes: of the levels, S = Σ H_i · W_i.

        Returns:
            (B, Q, width).
        """
        values = self.value_proj(tokens).unflatten(-1, (self.heads, -1))  # (B, S, heads, width / heads)
        # Coordinates need more digits than half precision has, and `grid_sample` wants values of their type.
        offsets = self.sampling_offsets(query).to(boxes.dtype).unflatten(-1, (self.heads, -1, 2))
        weights = self.attention_weights(query).to(boxes.dtype).unflatten(-1, (self.heads, -1)).softmax(-1)
        # In units of half the box over the number of points: first offsets of 1 … points reach to its edge.
        places = boxes[:, :, None, None, :2] + offsets * (boxes[:, :, None, None, 2:] * (0.5 / self.points))
        with without_autocast(query):
            seen = sample_levels(values.to(boxes.dtype), shapes, places, weights)
        return self.output_proj(seen.to(query.dtype))


def sample_levels(values: Tensor, shapes: Shapes, places: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of what lies at the places, between cells by bilinear interpolation, outside of the map nothing.

    Args:
        values: (B, S, heads, D), all levels, row by row.
        shapes: height and width of each level.
        places: (B, Q, heads, levels · points, 2) x, y in [0, 1] of the map.
        weights: (B, Q, heads, levels · points).

    Returns:
        (B, Q, heads · D).
    """
    batch, _, heads, depth = values.shape
    queries = places.shape[1]
    maps = values.permute(0, 2, 3, 1).reshape(batch * heads, depth, -1)  # (B · heads, D, S)
    grids = (
        (places * 2 - 1).transpose(1, 2).flatten(0, 1).unflatten(2, (len(shapes), -1))
    )  # (B · heads, Q, levels, P, 2)
    shares = weights.transpose(1, 2).flatten(0, 1).unflatten(2, (len(shapes), -1))  # (B · heads, Q, levels, P)
    seen: Tensor | None = None
    for level, (part, shape) in enumerate(zip(maps.split([h * w for h, w in shapes], -1), shapes, strict=True)):
        found = F.grid_sample(part.unflatten(2, shape), grids[:, :, level], align_corners=False)  # (B · heads, D, Q, P)
        found = (found * shares[:, None, :, level]).sum(-1)
        seen = found if seen is None else seen + found
    assert seen is not None
    return seen.reshape(batch, heads * depth, queries).transpose(1, 2)


class DeformableDecoderLayer(nn.Module):
    """Queries look at each other, then around their boxes, then a feed-forward part; norms after the sums.

    Source: Deformable DETR, arXiv:2010.04159, appendix A.
    """

    def __init__(self, width: int, *, levels: int, heads: int, points: int, hidden: int) -> None:
        super().__init__()
        # The names are those in published weights.
        self.self_attn = MultiheadAttention(width, heads, masked=True)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn = MSDeformAttn(width, levels=levels, heads=heads, points=points)
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm3 = nn.LayerNorm(width)

    def forward(
        self,
        x: Tensor,
        boxes: Tensor,
        tokens: Tensor,
        shapes: Shapes,
        position: Tensor,
        blocked: Tensor | None = None,
    ) -> Tensor:
        """(B, Q, width) → (B, Q, width).

        `position` is the code of the boxes, (B, Q, width); the others are those of the attentions.
        """
        x = self.norm1(x + self.self_attn(x + position, x, blocked))
        x = self.norm2(x + self.cross_attn(x + position, boxes, tokens, shapes))
        return self.norm3(x + self.linear2(F.relu(self.linear1(x), inplace=True)))
