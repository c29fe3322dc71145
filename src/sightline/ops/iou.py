"""Overlap of boxes: every pair of two sets (`pairwise_…`), or row by row (`matched_…`). The one place for it.

The small terms (1e-7) are placed as the recorded numbers demand: on the union, on the enclosing box, and, for corner
input of `matched_iou`, on the heights.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

EPS = 1e-7
Kind = Literal["iou", "giou", "diou", "ciou"]


def pairwise_iou(a: Tensor, b: Tensor, *, eps: float = EPS) -> Tensor:
    """Intersection over union of every pair.

    Args:
        a: (N, 4) xyxy.
        b: (M, 4) xyxy, in the same units.
        eps: keeps two empty boxes from dividing by zero.

    Returns:
        (N, M) in [0, 1] for boxes with corners in order. N or M may be 0.
    """
    intersection = pairwise_intersection(a, b)  # (N, M)
    union = box_area(a)[:, None] + box_area(b) - intersection
    return intersection / (union + eps)


def pairwise_ioa(a: Tensor, b: Tensor, *, eps: float = EPS) -> Tensor:
    """How much of each box of b is covered by each box of a: (N, 4), (M, 4) xyxy → (N, M)."""
    return pairwise_intersection(a, b) / (box_area(b) + eps)


def pairwise_intersection(a: Tensor, b: Tensor) -> Tensor:
    """Area shared by every pair: (N, 4), (M, 4) xyxy → (N, M)."""
    near = torch.maximum(a[:, None, :2], b[:, :2])  # (N, M, 2)
    far = torch.minimum(a[:, None, 2:4], b[:, 2:4])
    width, height = (far - near).clamp_(min=0).unbind(-1)
    return width * height


def box_area(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy → (...) area."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def matched_iou(a: Tensor, b: Tensor, kind: Kind = "iou", *, xywh: bool = False) -> Tensor:
    """Overlap of each box of a with the box of b in the same row.

    Args:
        a: (..., 4) boxes.
        b: (..., 4) boxes, broadcast against a.
        kind: "iou"; "giou" subtracts the empty share of the enclosing box; "diou" the squared distance of the centres
            over the squared diagonal of the enclosing box; "ciou" that and a term for unlike proportions.
        xywh: boxes are centre and size instead of corners.

    Returns:
        (..., 1). "iou" lies in [0, 1], the others reach below 0. With centre input, "ciou" of a box without height can
        be NaN; with corner input it cannot.

    Sources: Rezatofighi et al., Generalized IoU, arXiv:1902.09630; Zheng et al., Distance-IoU (and Complete IoU),
    arXiv:1911.08287.
    """
    ax1, ay1, ax2, ay2, a_width, a_height = _corners_and_size(a, xywh)
    bx1, by1, bx2, by2, b_width, b_height = _corners_and_size(b, xywh)
    inter_width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    inter_height = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    intersection = inter_width * inter_height
    union = a_width * a_height + b_width * b_height - intersection + EPS
    iou = intersection / union
    if kind == "iou":
        return iou.unsqueeze(-1)

    hull_width = torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)
    hull_height = torch.maximum(ay2, by2) - torch.minimum(ay1, by1)
    if kind == "giou":
        hull = hull_width * hull_height + EPS
        return (iou - (hull - union) / hull).unsqueeze(-1)

    diagonal = hull_width**2 + hull_height**2 + EPS
    distance = ((bx1 + bx2 - ax1 - ax2) ** 2 + (by1 + by2 - ay1 - ay2) ** 2) / 4
    if kind == "diou":
        return (iou - distance / diagonal).unsqueeze(-1)
    if kind != "ciou":
        raise ValueError(f'kind of overlap is {kind!r}; it must be "iou", "giou", "diou" or "ciou"')
    proportions = _unlike_proportions(a_width, a_height, b_width, b_height)
    with torch.no_grad():  # the trade-off is a constant for the gradient, as in the paper
        trade_off = proportions / (1 - iou + proportions + EPS)
    return (iou - (distance / diagonal + proportions * trade_off)).unsqueeze(-1)


def matched_probabilistic_iou(a: Tensor, b: Tensor, *, floor: float = 0.0, ciou: bool = False) -> Tensor:
    """Overlap of rotated boxes, row by row, as that of two Gaussian distributions.

    Args:
        a: (..., 5) centre, size, angle in radians.
        b: (..., 5), broadcast against a.
        floor: added to the variances, in squared pixels, so that thin boxes keep a gradient.
        ciou: also subtract the term for unlike proportions.

    Returns:
        (..., 1) in [0, 1): one minus the Hellinger distance. Exactly equal boxes give a little less than 1.

    Source: Llerena et al., Gaussian Bounding Boxes and Probabilistic Intersection-over-Union, arXiv:2106.06072.
    """
    overlap = _probabilistic_iou(a, b, floor)
    if ciou:
        proportions = _unlike_proportions(a[..., 2], a[..., 3], b[..., 2], b[..., 3])
        with torch.no_grad():
            trade_off = proportions / (1 - overlap + proportions + EPS)
        overlap = overlap - proportions * trade_off
    return overlap.unsqueeze(-1)


def pairwise_probabilistic_iou(a: Tensor, b: Tensor) -> Tensor:
    """`matched_probabilistic_iou` of every pair: (N, 5), (M, 5) → (N, M)."""
    return _probabilistic_iou(a[:, None], b[None], 0.0)


def _corners_and_size(boxes: Tensor, xywh: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    p, q, r, s = boxes.unbind(-1)
    if xywh:
        return p - r / 2, q - s / 2, p + r / 2, q + s / 2, r, s
    return p, q, r, s, r - p, s - q + EPS


def _unlike_proportions(a_width: Tensor, a_height: Tensor, b_width: Tensor, b_height: Tensor) -> Tensor:
    difference = (b_width / b_height).atan() - (a_width / a_height).atan()
    return (4 / math.pi**2) * difference**2


def _probabilistic_iou(a: Tensor, b: Tensor, floor: float) -> Tensor:
    """The order of operations is that of the recorded numbers: nearly equal boxes cancel, and another order shows."""
    a_xx, a_yy, a_xy = _covariance(a, floor)
    b_xx, b_yy, b_xy = _covariance(b, floor)
    xx, yy, xy = a_xx + b_xx, a_yy + b_yy, a_xy + b_xy
    dx, dy = b[..., 0] - a[..., 0], a[..., 1] - b[..., 1]
    determinant = xx * yy - xy**2
    location = (xx * dy**2 + yy * dx**2) / (determinant + EPS) * 0.25
    skew = (xy * dx * dy) / (determinant + EPS) * 0.5
    a_determinant = (a_xx * a_yy - a_xy**2).clamp(min=0)
    b_determinant = (b_xx * b_yy - b_xy**2).clamp(min=0)
    spread = (determinant / (4 * (a_determinant * b_determinant).sqrt() + EPS) + EPS).log() * 0.5
    bhattacharyya = (location + skew + spread).clamp(EPS, 100.0)
    hellinger = (1 - (-bhattacharyya).exp() + EPS).sqrt()
    return 1 - hellinger


def _covariance(boxes: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Variance in x and y and covariance of a uniform rotated box: (..., 5) → three of (...)."""
    _, _, width, height, angle = boxes.unbind(-1)
    along, across = width**2 / 12 + floor, height**2 / 12 + floor
    cos, sin = angle.cos(), angle.sin()
    cos2, sin2 = cos**2, sin**2
    return along * cos2 + across * sin2, along * sin2 + across * cos2, (along - across) * cos * sin
