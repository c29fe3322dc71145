"""Overlaps of boxes and average precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from sightline.metrics import average_precision
from sightline.ops import iou


def box_iou(box1: Tensor, box2: Tensor, eps: float = iou.EPS) -> Tensor:
    """(N, 4), (M, 4) xyxy → (N, M) intersection over union of every pair."""
    return iou.pairwise_iou(box1, box2, eps=eps)


def bbox_iou(
    box1: Tensor,
    box2: Tensor,
    xywh: bool = True,
    GIoU: bool = False,
    DIoU: bool = False,
    CIoU: bool = False,
    eps: float = iou.EPS,
) -> Tensor:
    """(..., 4), (..., 4) → (..., 1) overlap of boxes in the same row; centre and size unless xywh=False.

    Raises:
        ValueError: another `eps`: ours is part of the formulas.
    """
    if eps != iou.EPS:
        raise ValueError(f"bbox_iou: eps={eps}, but sightline computes with {iou.EPS}. Leave eps out.")
    kind: iou.Kind = "ciou" if CIoU else "diou" if DIoU else "giou" if GIoU else "iou"
    return iou.matched_iou(box1, box2, kind, xywh=xywh)


def probiou(obb1: Tensor, obb2: Tensor, CIoU: bool = False) -> Tensor:
    """(..., 5), (..., 5) centre, size and angle → (..., 1) overlap of rotated boxes in the same row."""
    return iou.matched_probabilistic_iou(obb1, obb2, ciou=CIoU)


def batch_probiou(obb1: Tensor, obb2: Tensor) -> Tensor:
    """(N, 5), (M, 5) → (N, M) overlap of every pair of rotated boxes."""
    return iou.pairwise_probabilistic_iou(obb1, obb2)


def ap_per_class(
    tp: np.ndarray, conf: np.ndarray, pred_cls: np.ndarray, target_cls: np.ndarray, plot: bool = False
) -> tuple[Any, ...]:
    """The twelve arrays that people unpack; see `sightline.metrics.average_precision.AveragePrecision` for them.

    Raises:
        ValueError: `plot`: pictures are drawn by `sightline.artifacts.plots`.
    """
    if plot:
        raise ValueError(
            "ap_per_class: plot=True is not here; sightline.artifacts.plots.plot_pr_curve draws the curve."
        )
    return tuple(average_precision.ap_per_class(tp, conf, pred_cls, target_cls))[:12]
