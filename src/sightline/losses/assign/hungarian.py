"""One query for each target, at the least total cost: the matching of DETR.

Source: Carion et al., DETR, arXiv:2005.12872, section 3.1; costs as in Lv et al., RT-DETR, arXiv:2304.08069.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sightline.losses.assign.candidates import send
from sightline.losses.precision import at_least_float32
from sightline.losses.targets import TargetRows
from sightline.ops.iou import matched_iou

NOTHING_COSTS_MORE = 1e6  # for a cost that is not finite: a broken prediction must not be the cheapest match


class Matches(NamedTuple):
    """Which query stands for which target: S pairs, layer by layer, equally many in each layer."""

    layer: Tensor  # (S,) int64
    image: Tensor  # (S,) int64
    query: Tensor  # (S,) int64
    target: Tensor  # (S,) int64, row of `TargetRows`


class HungarianMatcher:
    """
    Args:
        class_cost, box_cost, overlap_cost: weights of the three costs: focal, sum of the four differences, 1 − GIoU.
        alpha, gamma: of the focal cost.
    """

    def __init__(
        self,
        class_cost: float = 2.0,
        box_cost: float = 5.0,
        overlap_cost: float = 2.0,
        *,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        self.class_cost, self.box_cost, self.overlap_cost = class_cost, box_cost, overlap_cost
        self.alpha, self.gamma = alpha, gamma

    @torch.no_grad()
    def __call__(self, boxes: Tensor, scores: Tensor, targets: TargetRows) -> Matches:
        """Match every layer by itself.

        Args:
            boxes: (L, B, Q, 4) xywh in [0, 1].
            scores: (L, B, Q, C) logits.
            targets: of the batch.

        Returns:
            Σ_b min(Q, targets of image b) pairs a layer, on the host.
        """
        if not any(targets.counts):
            nothing = torch.zeros(0, dtype=torch.long)
            return Matches(nothing, nothing, nothing, nothing)
        labels, target_boxes = (send(each, boxes.device) for each in targets.padded())
        costs = self.costs(boxes, scores, labels, target_boxes)
        on_host = costs.cpu().numpy()  # the one wait for the device: all layers and images at once
        first = np.cumsum([0, *targets.counts[:-1]])
        pairs: list[np.ndarray] = []
        for layer, of_layer in enumerate(on_host):
            for image, (cost, count) in enumerate(zip(of_layer, targets.counts, strict=True)):
                if count:
                    query, target = linear_sum_assignment(cost[:, :count])
                    place = np.full_like(query, layer), np.full_like(query, image)
                    pairs.append(np.stack([*place, query, target + first[image]]))
        return Matches(*torch.from_numpy(np.concatenate(pairs, axis=1)).unbind())

    def costs(self, boxes: Tensor, scores: Tensor, labels: Tensor, target_boxes: Tensor) -> Tensor:
        """(L, B, Q, M) float32 (float64 for such predictions), finite; of places without a target, whatever comes out.

        Args:
            boxes: (L, B, Q, 4) xywh in [0, 1].
            scores: (L, B, Q, C) logits.
            labels: (B, M) int64.
            target_boxes: (B, M, 4) xywh in [0, 1].
        """
        boxes = at_least_float32(boxes)[..., None, :]  # (L, B, Q, 1, 4)
        targets = target_boxes.to(boxes.dtype)[:, None]  # (B, 1, M, 4)
        place = labels[None, :, None].expand(*scores.shape[:3], -1)
        probability = at_least_float32(scores.gather(3, place)).sigmoid()  # (L, B, Q, M)
        as_object = self.alpha * (1 - probability) ** self.gamma * -(probability + 1e-8).log()
        as_background = (1 - self.alpha) * probability**self.gamma * -(1 - probability + 1e-8).log()
        distance = (boxes - targets).abs().sum(-1)
        overlap = matched_iou(boxes, targets, "giou", xywh=True).squeeze(-1)
        total = (
            self.class_cost * (as_object - as_background) + self.box_cost * distance + self.overlap_cost * (1 - overlap)
        )
        return torch.where(total.isfinite(), total, NOTHING_COSTS_MORE)
