"""Where a box lies: overlap, and distances to its four sides, as bins or as plain numbers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sightline.ops.anchors import encode_distances
from sightline.ops.iou import matched_iou


def overlap_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 − complete IoU: (S, 4), (S, 4) xyxy → (S,).

    Source: Zheng et al., Distance-IoU (and Complete IoU), arXiv:1911.08287.
    """
    return 1.0 - matched_iou(predicted, target, "ciou").squeeze(-1)


def distribution_focal_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Cross-entropy against the two bins around the true distance, weighted by how near each is.

    Args:
        logits: (S, 4, R) scores of the bins 0 … R−1 of each side, before the softmax.
        distances: (S, 4) true distances in bins, within [0, R−1).

    Returns:
        (S,) mean over the four sides.

    Source: Li et al., Generalized Focal Loss, arXiv:2006.04388, section 3.2.
    """
    left = distances.long()
    right_weight = distances - left
    log_probability = F.log_softmax(logits, dim=-1)
    at_left = log_probability.gather(-1, left[..., None]).squeeze(-1)  # (S, 4)
    at_right = log_probability.gather(-1, left[..., None] + 1).squeeze(-1)
    return -(at_left * (1 - right_weight) + at_right * right_weight).mean(-1)


def distance_l1_loss(distances: Tensor, targets: Tensor, strides: Tensor, image_hw: tuple[float, float]) -> Tensor:
    """Absolute error of the four distances, as a share of the image.

    Args:
        distances: (S, 4) predicted left, top, right, bottom, in units of the level's stride; may be negative.
        targets: (S, 4) true ones.
        strides: (S, 1) pixels per unit.
        image_hw: height and width of the network input, pixels.

    Returns:
        (S,) mean over the four sides.
    """
    height, width = image_hw
    pixels = (distances - targets).abs() * strides  # (S, 4)
    # Numbers, not a tensor of the four sizes: making one on a GPU would wait for it.
    return (pixels[:, 0::2].sum(-1) / width + pixels[:, 1::2].sum(-1) / height) / 4


class BoxLoss(nn.Module):
    """Overlap and distances of the positives: with bins distribution focal loss, without them L1.

    Args:
        reg_max: bins per side; 1 for none.
    """

    def __init__(self, reg_max: int) -> None:
        super().__init__()
        self.reg_max = reg_max

    def forward(
        self,
        raw: Tensor,
        predicted: Tensor,
        target: Tensor,
        points: Tensor,
        strides: Tensor,
        image_hw: tuple[float, float],
    ) -> tuple[Tensor, Tensor]:
        """Both terms, one value per positive; the caller weighs and adds them.

        Args:
            raw: (S, 4 × reg_max) what the head said.
            predicted: (S, 4) the same, decoded: xyxy in units of the level's stride.
            target: (S, 4) xyxy in the same units.
            points: (S, 2) anchor points in the same units.
            strides: (S, 1) pixels per unit.
            image_hw: height and width of the network input, pixels.

        Returns:
            (S,) overlap term and (S,) distance term.
        """
        overlap = overlap_loss(predicted, target)
        if self.reg_max > 1:
            distances = encode_distances(points, target, limit=self.reg_max - 1)
            return overlap, distribution_focal_loss(raw.view(-1, 4, self.reg_max), distances)
        return overlap, distance_l1_loss(raw, encode_distances(points, target), strides, image_hw)
