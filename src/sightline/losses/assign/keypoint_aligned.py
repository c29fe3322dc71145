"""Task-aligned assignment of objects with keypoints: what an anchor says of the keypoints decides, not its box.

The measure is the object keypoint similarity of the COCO keypoint challenge (https://cocodataset.org/#keypoints-eval).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sightline.losses.assign.candidates import CandidatePairs, grid_shapes, lengths_are_free, send
from sightline.losses.assign.task_aligned import TaskAlignedAssigner

# An object is learnt at a stride s if its side, the square root of its area, lies between these multiples of s.
SMALLEST_SIDE, LARGEST_SIDE = 2.0, 12.0
AREA_SHARE = 0.53  # of a person's box that is covered by the person, about


class KeypointAlignedAssigner(TaskAlignedAssigner):
    """Assigns by score^alpha × OKS^beta, at the levels that suit the size of the object.

    Arguments as `TaskAlignedAssigner`. `assign` and `forward` need three more:

    * pd_keypoints: (B, A, K, 2) x, y, pixels.
    * gt_keypoints: (B, M, K, 3) x, y, visibility, pixels. Objects without a visible point go by the overlap of boxes.
    * sigmas: (K,) see `metrics.keypoint_similarity`.
    """

    def candidates(
        self,
        gt_bboxes: Tensor,
        valid: Tensor,
        anc_points: Tensor,
        shapes: Sequence[tuple[int, int]] | None = None,
    ) -> CandidatePairs:
        """As before, without the levels that are too coarse or too fine for a target, unless these are all it has."""
        shapes = grid_shapes(anc_points, self.stride) if shapes is None else shapes
        pairs = super().candidates(gt_bboxes, valid, anc_points, shapes)
        size = gt_bboxes.reshape(-1, 4).nan_to_num(0)
        side = ((size[:, 2] - size[:, 0]) * (size[:, 3] - size[:, 1])).clamp(min=0).sqrt()
        side = send(side, anc_points.device).index_select(0, pairs.target)
        stride = self._strides_of(pairs, shapes, anc_points)
        fits = ((side >= SMALLEST_SIDE * stride) | (stride == min(self.stride))) & (
            (side <= LARGEST_SIDE * stride) | (stride == max(self.stride))
        )
        kept = fits if pairs.inside is None else fits & pairs.inside
        left = torch.zeros(pairs.images * pairs.slots, dtype=torch.long, device=kept.device)
        left.index_add_(0, pairs.target, kept.long())
        kept = kept | (left.index_select(0, pairs.target) == 0)
        if not lengths_are_free(kept):
            return replace(pairs, inside=kept if pairs.inside is None else kept & pairs.inside)
        rows = kept.nonzero().squeeze(1)
        listed = {name: getattr(pairs, name).index_select(0, rows) for name in ("target", "anchor", "image", "place")}
        return replace(pairs, **listed)

    def overlap(self, pairs: CandidatePairs, pd_bboxes: Tensor, gt_bboxes: Tensor, **extra: Any) -> Tensor:
        """(P,) OKS, or complete IoU for a target without visible points."""
        boxes = super().overlap(pairs, pd_bboxes, gt_bboxes)
        true: Tensor = extra["gt_keypoints"]  # (B, M, K, 3)
        if not true.shape[1]:
            return boxes
        sigmas: Tensor = extra["sigmas"].to(boxes.dtype)
        keypoints: Tensor = extra["pd_keypoints"].flatten(0, 1).to(boxes.dtype)  # (B · A, K, 2)
        size = gt_bboxes.reshape(-1, 4)
        area = (size[:, 2] - size[:, 0]) * (size[:, 3] - size[:, 1]) * AREA_SHARE  # (B · M,)
        visible = true[..., 2].flatten(0, 1) > 0  # (B · M, K)
        scale = (2 * sigmas) ** 2 * (area[:, None] + self.eps) * 2
        target = pairs.target
        distance = keypoints.index_select(0, pairs.place) - true[..., :2].flatten(0, 1).index_select(0, target)
        near = torch.exp(-distance.square().sum(-1) / scale.index_select(0, target))  # (P, K)
        count = visible.sum(1)
        similarity = (near * visible.index_select(0, target)).sum(1) / count.clamp(min=1).index_select(0, target)
        return torch.where(count.index_select(0, target) > 0, similarity, boxes)

    def _strides_of(self, pairs: CandidatePairs, shapes: Sequence[tuple[int, int]] | None, points: Tensor) -> Tensor:
        """(P,) pixels per cell at the anchor of each pair."""
        if shapes is None:
            raise ValueError("Anchors that lie on no grid belong to no level: give `shapes`, (height, width) of each.")
        sizes = [height * width for height, width in shapes]
        per_anchor = torch.cat([torch.full((size,), stride) for size, stride in zip(sizes, self.stride, strict=True)])
        return send(per_anchor, points.device).index_select(0, pairs.anchor)
