"""Anchor points and distances."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.ops import anchors
from sightline.ops.boxes import xyxy_to_xywh


def make_anchors(
    feats: Sequence[Tensor], strides: Sequence[float] | Tensor, grid_cell_offset: float = 0.5
) -> tuple[Tensor, Tensor]:
    """(A, 2) points in grid units and (A, 1) strides, for maps (B, C, H, W) of each level."""
    shapes = [(int(level.shape[-2]), int(level.shape[-1])) for level in feats]
    points, sizes = anchors.make_anchors(shapes, strides, dtype=feats[0].dtype, device=feats[0].device)
    return points + (grid_cell_offset - 0.5), sizes


def dist2bbox(distance: Tensor, anchor_points: Tensor, xywh: bool = True, dim: int = -1) -> Tensor:
    """Distances to the four sides → boxes, centre and size unless xywh=False; the four lie along `dim`."""
    moved, points = distance.movedim(dim, -1), anchor_points.movedim(dim, -1)
    near, far = moved.chunk(2, dim=-1)
    boxes = torch.cat([points - near, points + far], dim=-1)
    return (xyxy_to_xywh(boxes) if xywh else boxes).movedim(-1, dim)
