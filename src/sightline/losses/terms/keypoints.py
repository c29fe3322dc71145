"""Where keypoints lie: similarity to the labelled ones, and their likelihood under a learnt spread of errors."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

ERROR_LIMIT = 100.0  # of an error in its own spread; beyond it a point is lost anyway


class Density(Protocol):
    """What the likelihood needs of a flow."""

    def log_prob(self, x: Tensor) -> Tensor: ...


def keypoint_similarity_loss(
    predicted: Tensor, target: Tensor, visible: Tensor, area: Tensor, sigmas: Tensor
) -> Tensor:
    """1 − similarity of each labelled point, scaled so that objects with few of them count as much.

    Args:
        predicted: (S, K, 2) x, y.
        target: (S, K, 2) in the same units.
        visible: (S, K) bool, False for points that are not labelled: their loss is 0.
        area: (S,) of the object's box, in squared units.
        sigmas: (K,) how far apart two people place the point, relative to the size of the object.

    Returns:
        (S, K).

    Source: Maji et al., YOLO-Pose, arXiv:2204.06806, section 3.4.
    """
    labelled = visible.to(predicted.dtype)
    factor = labelled.shape[1] / (labelled.sum(1, keepdim=True) + 1e-9)  # (S, 1)
    distance = (predicted - target).square().sum(-1)
    error = distance / ((2 * sigmas) ** 2 * (area[:, None] + 1e-9) * 2)
    return factor * (1 - torch.exp(-error)) * labelled


def residual_likelihood_loss(
    predicted: Tensor, target: Tensor, spread: Tensor, weight: Tensor, counts: Tensor, flow: Density
) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of errors: a Laplace distribution, times what the flow learns of their true shape.

    Args:
        predicted: (R, 2) x, y of each point.
        target: (R, 2) in the same units.
        spread: (R, 2) logits of the spread in those units.
        weight: (R,) of each point.
        counts: (R,) bool, False for rows that are there to fill a list.
        flow: the density of the errors in their spread.

    Returns:
        (R,) loss, 0 where the row doesn't count; and (R,) bool, the rows that do: errors that are no numbers don't.

    Source: Li et al., Human Pose Regression with Residual Log-likelihood Estimation, arXiv:2107.11291.
    """
    sigma = spread.sigmoid().clamp(min=torch.finfo(spread.dtype).tiny)
    error = (predicted - target) / (sigma + 1e-9)
    counts = counts & error.isfinite().all(-1)
    # Rows that don't count are replaced before anything is computed: 0 × nan would reach the gradient.
    error = torch.where(counts[:, None], error, 0).clamp(-ERROR_LIMIT, ERROR_LIMIT)
    sigma = torch.where(counts[:, None], sigma, 1)
    likelihood = flow.log_prob(error)[:, None]  # (R, 1)
    loss = sigma.log() - likelihood + (2 * sigma).log() + error.abs()  # (R, 2)
    return loss.sum(-1) * weight * counts, counts
