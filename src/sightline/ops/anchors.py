"""Anchor points of a feature pyramid, and boxes as distances from such a point to the four sides.

"Grid units" are pixels of the network input divided by the stride of the level. Source of the box form: Tian et al.,
FCOS, arXiv:1904.01355, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def make_anchors(
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[float] | Tensor,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """One point in the middle of each cell of each level.

    Args:
        shapes: (height, width) of each level's feature map.
        strides: pixels of the network input per cell, one a level. Give numbers, not a CUDA tensor: reading that waits.

    Returns:
        (A, 2) x, y in grid units, and (A, 1) strides. Levels follow each other; within one, x runs fastest.

    Raises:
        ValueError: if there are not as many strides as shapes.
    """
    values = [float(stride) for stride in strides]
    if len(values) != len(shapes):
        raise ValueError(f"{len(shapes)} feature maps but {len(values)} strides; give one stride for each map")
    points, cell_sizes = [], []
    for (height, width), stride in zip(shapes, values, strict=True):
        x = torch.arange(width, device=device, dtype=dtype) + 0.5
        y = torch.arange(height, device=device, dtype=dtype) + 0.5
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")  # (H, W) each
        points.append(torch.stack([grid_x, grid_y], dim=-1).view(-1, 2))
        cell_sizes.append(torch.full((height * width, 1), stride, dtype=dtype, device=device))
    return torch.cat(points), torch.cat(cell_sizes)


def decode_distances(distances: Tensor, points: Tensor) -> Tensor:
    """Distances to the left, top, right and bottom side → corners.

    Args:
        distances: (..., A, 4); a negative distance is allowed and gives a side beyond the point.
        points: (A, 2) x, y in the same units.

    Returns:
        (..., A, 4) xyxy in those units, not clipped.
    """
    near, far = distances.chunk(2, dim=-1)  # (..., A, 2) each
    return torch.cat([points - near, points + far], dim=-1)


def encode_distances(points: Tensor, boxes: Tensor, limit: float | None = None) -> Tensor:
    """Corners → distances from a point to the four sides; the inverse of `decode_distances`.

    Args:
        points: (..., 2) x, y.
        boxes: (..., 4) xyxy in the same units.
        limit: the largest distance the head can say; distances are then clamped to [0, limit − 0.01], so that the
            bin above always exists. None leaves them as they are, also below 0.

    Returns:
        (..., 4) left, top, right, bottom.
    """
    near, far = boxes.chunk(2, dim=-1)
    distances = torch.cat([points - near, far - points], dim=-1)
    return distances if limit is None else distances.clamp(0, limit - 0.01)
