"""Task-aligned assignment: a target is learnt by the anchors that already classify and place it best.

Everything works on lists of (target, anchor) pairs (`candidates.py`), never on a (B, M, A) table.

Source: Feng et al., TOOD: Task-aligned One-stage Object Detection, arXiv:2108.07755.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sightline.losses.assign.candidates import (
    CandidatePairs,
    enlarge_small,
    grid_shapes,
    lengths_are_free,
    list_anywhere,
    list_on_grid,
)
from sightline.ops.iou import matched_iou


@dataclass(frozen=True)
class Assignment:
    """S anchors that learn a target, each once; all others are background.

    On a GPU the number of positives is not known without waiting for it, so S is an upper bound there and entries that
    are not `used` have score 0 (they repeat an arbitrary pair, which keeps every loss term finite).
    """

    image: Tensor  # (S,) int64
    anchor: Tensor  # (S,) int64
    slot: Tensor  # (S,) int64, row of the target in its image's padded table
    score: Tensor  # (S,) how well the anchor should score in the target's class, in [0, 1]
    used: Tensor | None  # (S,) bool; None: all
    images: int
    anchors: int

    def fg_mask(self) -> Tensor:
        """(B, A) bool: anchors that learn a target."""
        return self._spread(torch.ones_like(self.image)) > 0

    def target_gt_idx(self) -> Tensor:
        """(B, A) int64: row of the target in its image's table, 0 for background."""
        return self._spread(self.slot)

    def target_scores(self, labels: Tensor, num_classes: int) -> Tensor:
        """(B, A, C): the score in the target's class, 0 elsewhere.

        Args:
            labels: (S,) int64 class of each entry's target.
            num_classes: C.
        """
        scores = self.score.new_zeros(self.images * self.anchors * num_classes)
        # Entries that are not used have score 0, so adding them changes nothing.
        place = (self.image * self.anchors + self.anchor) * num_classes + labels
        return scores.index_add_(0, place, self.score).view(self.images, self.anchors, num_classes)

    def _spread(self, values: Tensor) -> Tensor:
        """(S,) → (B, A), 0 where nothing is assigned."""
        if self.used is not None:
            values = values * self.used
        out = values.new_zeros(self.images * self.anchors)
        out.index_add_(0, self.image * self.anchors + self.anchor, values)
        return out.view(self.images, self.anchors)


class TaskAlignedAssigner(nn.Module):
    """Assigns by score^alpha × overlap^beta.

    Args:
        topk: anchors picked per target.
        num_classes: C.
        alpha: exponent of the score.
        beta: exponent of the overlap.
        stride: pixels per cell of each level. Sides of targets below the second (the first if there is only one) are
            raised to it when anchors inside are looked for.
        eps: keeps a target without any metric from dividing by zero.
        topk2: anchors left per target in the end; None for topk. 1 gives a one-to-one assignment.

    To change what an overlap is, override `overlap`; to change which anchors may be picked, `candidates`.
    """

    def __init__(
        self,
        topk: int = 13,
        num_classes: int = 80,
        alpha: float = 1.0,
        beta: float = 6.0,
        stride: Sequence[float] = (8, 16, 32),
        eps: float = 1e-9,
        topk2: int | None = None,
    ) -> None:
        super().__init__()
        self.topk = topk
        self.topk2 = topk if topk2 is None else topk2
        self.num_classes = num_classes
        self.alpha = alpha
        self.beta = beta
        self.stride = [float(value) for value in stride]
        self.eps = eps

    @torch.no_grad()
    def forward(
        self,
        pd_scores: Tensor,
        pd_bboxes: Tensor,
        anc_points: Tensor,
        gt_labels: Tensor,
        gt_bboxes: Tensor,
        mask_gt: Tensor,
        **extra: Any,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Assign with dense inputs and outputs. The losses use `assign`, which needs neither.

        Args:
            pd_scores: (B, A, C) after the sigmoid.
            pd_bboxes: (B, A, 4) xyxy, pixels.
            anc_points: (A, 2) x, y, pixels.
            gt_labels: (B, M, 1) class.
            gt_bboxes: (B, M, 4) xyxy, pixels.
            mask_gt: (B, M, 1) nonzero for targets, 0 for padding.
            extra: goes to `overlap`.

        Returns:
            (B, A) int64 labels; (B, A, 4) target boxes; (B, A, C) target scores; (B, A) bool positives; (B, A) int64
            rows of the targets. Background anchors have the label and box of row 0 and no score.
        """
        images = pd_scores.shape[0]
        labels = gt_labels.reshape(images, -1).long()
        pairs = self.candidates(gt_bboxes, mask_gt.reshape(images, -1) > 0, anc_points)
        pair_scores = pd_scores[pairs.image, pairs.anchor, labels.reshape(-1)[pairs.target]]
        assignment = self.assign(pairs, pair_scores, pd_bboxes, gt_bboxes, **extra)
        rows = assignment.target_gt_idx()
        if pairs.slots:
            target_labels = labels.gather(1, rows).clamp(min=0)
            target_boxes = gt_bboxes.gather(1, rows[..., None].expand(-1, -1, gt_bboxes.shape[-1]))
        else:
            target_labels = torch.full_like(rows, self.num_classes)
            target_boxes = torch.zeros_like(pd_bboxes)
        positive_labels = labels[assignment.image, assignment.slot]
        scores = assignment.target_scores(positive_labels, self.num_classes)
        return target_labels, target_boxes, scores, assignment.fg_mask(), rows

    def candidates(
        self,
        gt_bboxes: Tensor,
        valid: Tensor,
        anc_points: Tensor,
        shapes: Sequence[tuple[int, int]] | None = None,
    ) -> CandidatePairs:
        """Pairs that may be assigned: anchors inside the target, small targets enlarged.

        Args:
            gt_bboxes: (B, M, 4) xyxy, pixels; may lie on the host (see `list_on_grid`).
            valid: (B, M) bool, False for padding.
            anc_points: (A, 2) x, y, pixels.
            shapes: (height, width) of each level; None finds them in the points.
        """
        floor = self.stride[1] if len(self.stride) > 1 else self.stride[0]
        boxes = enlarge_small(gt_bboxes, floor)
        if shapes is None:
            shapes = grid_shapes(anc_points, self.stride)
        if shapes is None:
            return list_anywhere(boxes, valid, anc_points)
        return list_on_grid(boxes, valid, anc_points, shapes, self.stride)

    def overlap(self, pairs: CandidatePairs, pd_bboxes: Tensor, gt_bboxes: Tensor, **extra: Any) -> Tensor:
        """(P,) overlap of target and prediction of each pair; below 0 counts as 0. Here: complete IoU.

        Args:
            pairs: P candidate pairs.
            pd_bboxes: (B, A, 4) xyxy, pixels.
            gt_bboxes: (B, M, 4) xyxy, pixels.
            extra: what the caller gave to `assign`; nothing is needed here.
        """
        targets = gt_bboxes.reshape(-1, 4).index_select(0, pairs.target)
        predicted = pd_bboxes.reshape(-1, 4).index_select(0, pairs.place).to(targets.dtype)
        return matched_iou(targets, predicted, "ciou").squeeze(-1)

    @torch.no_grad()
    def assign(
        self, pairs: CandidatePairs, pair_scores: Tensor, pd_bboxes: Tensor, gt_bboxes: Tensor, **extra: Any
    ) -> Assignment:
        """Decide which pairs become positives.

        Args:
            pairs: P candidate pairs.
            pair_scores: (P,) predicted probability of the target's class at the anchor.
            pd_bboxes: (B, A, 4) xyxy, pixels.
            gt_bboxes: (B, M, 4) xyxy, pixels, on the device of the pairs.
            extra: goes to `overlap`.
        """
        overlaps = self.overlap(pairs, pd_bboxes, gt_bboxes, **extra).clamp(min=0)  # (P,)
        if pairs.inside is not None:
            overlaps = overlaps * pairs.inside
        # In half precision an overlap below 0.055 to the sixth power is 0, so the metric is always at least float32.
        metric = pair_scores.to(overlaps.dtype).pow(self.alpha) * overlaps.pow(self.beta)
        metric = torch.where(metric > 0, metric, 0)  # a NaN picks nothing

        target, place = pairs.target, pairs.place
        targets = pairs.images * pairs.slots
        picked = _best_of_each(target, metric, targets, self.topk) & (metric > 0)
        positive = _one_target_per_anchor(picked, place, target, overlaps, pairs.images * pairs.anchors, targets)
        kept, used = _positions(positive, limit=pairs.valid_targets * self.topk)

        target, metric, overlaps = (values.index_select(0, kept) for values in (target, metric, overlaps))
        if used is not None:
            metric, overlaps = metric * used, overlaps * used
        if self.topk2 != self.topk:
            left = _best_of_each(target, metric, targets, self.topk2)
            if used is None:
                rows = left.nonzero().squeeze(1)
                kept, target, metric, overlaps = kept[rows], target[rows], metric[rows], overlaps[rows]
            else:
                used = used & left
                metric, overlaps = metric * used, overlaps * used
        # The best anchor of a target is to score as well as it overlaps, the others in proportion.
        best_metric = metric.new_zeros(targets).scatter_reduce_(0, target, metric, "amax")[target]
        best_overlap = overlaps.new_zeros(targets).scatter_reduce_(0, target, overlaps, "amax")[target]
        score = metric * best_overlap / (best_metric + self.eps)
        slot = target - pairs.image[kept] * pairs.slots
        return Assignment(pairs.image[kept], pairs.anchor[kept], slot, score, used, pairs.images, pairs.anchors)


def _best_of_each(target: Tensor, metric: Tensor, targets: int, count: int) -> Tensor:
    """(P,) bool: is the pair among the `count` largest of its target? Of equal metrics, the first ones given.

    One sort of whole numbers: the target in the upper half, the metric, largest first, in the lower. The bits of
    floats that are not negative are in the order of their values, and integers sort several times faster than floats.
    """
    descending = 0x7F800000 - metric.float().view(torch.int32).long()  # from infinity's bits down to 0
    order = ((target << 32) + descending).sort(stable=True).indices
    sizes = torch.zeros(targets, dtype=torch.long, device=target.device).index_add_(0, target, torch.ones_like(target))
    first = (sizes.cumsum(0) - sizes).index_select(0, target.index_select(0, order))
    rank = torch.arange(len(target), device=target.device) - first
    return torch.zeros_like(target, dtype=torch.bool).scatter_(0, order, rank < count)


def _one_target_per_anchor(
    picked: Tensor, place: Tensor, target: Tensor, overlaps: Tensor, places: int, targets: int
) -> Tensor:
    """(P,) bool: picks, where each anchor picked by several targets goes to the one it overlaps most.

    That one is looked for among all targets the anchor is a candidate of, also those that did not pick it; equal
    overlaps go to the first target.
    """
    picks = torch.zeros(places, dtype=torch.long, device=place.device).index_add_(0, place, picked.long())
    contested = picks.index_select(0, place) > 1  # (P,)
    rows, _ = _positions(contested, limit=None)
    place, rival, overlap = (values.index_select(0, rows) for values in (place, target, overlaps))
    highest = overlap.new_zeros(places).scatter_reduce_(0, place, overlap, "amax")
    best = torch.where(overlap == highest.index_select(0, place), rival, targets)
    winner = torch.full_like(picks, targets).scatter_reduce_(0, place, best, "amin")
    wins = winner.index_select(0, place) == rival
    # Where rows are all pairs, those of anchors that nobody contests keep what was picked.
    return picked.index_put((rows,), torch.where(contested.index_select(0, rows), wins, picked.index_select(0, rows)))


def _positions(mask: Tensor, limit: int | None) -> tuple[Tensor, Tensor | None]:
    """Where a mask is True, and which of the positions count (None: all).

    Where lengths are not free, the result is as long as `limit`, which must bound the number of True (unused positions
    are 0), or, for None, as the mask.
    """
    if lengths_are_free(mask):
        return mask.nonzero().squeeze(1), None
    if limit is None:
        return torch.arange(len(mask), device=mask.device), mask
    limit = min(limit, len(mask))
    rank = mask.long().cumsum(0)  # (P,) from 1
    positions = torch.zeros(limit + 1, dtype=torch.long, device=mask.device)
    # Everything that is not wanted lands in one place more, which is cut off.
    positions.scatter_(0, torch.where(mask, rank - 1, limit), torch.arange(len(mask), device=mask.device))
    count = rank[-1] if len(mask) else 0
    return positions[:limit], torch.arange(limit, device=mask.device) < count
