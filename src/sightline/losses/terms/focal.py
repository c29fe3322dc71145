"""Focal modulation: what the network already says right counts less.

The cross-entropy of an element is multiplied by |t − p|^γ, p being its sigmoid. For targets of 0 and 1 that is the
focal loss; for the scores of the assigner it is the quality focal loss, whose minimum lies at p = t.

The gradient goes through the modulation, too. Between 0 and 1 exponents have none at p = t: it grows beyond all bounds
there. So γ is 0 (off) or at least 1.

Sources: Lin et al., Focal Loss, arXiv:1708.02002; Li et al., Generalized Focal Loss, arXiv:2006.04388, section 3.1.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.losses.precision import at_least_float32


def modulation(logits: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """|t − p|^γ of each element; logits and targets of one shape."""
    return (targets - logits.sigmoid()).abs() ** gamma


def focal_cross_entropy(
    logits: Tensor, targets: Tensor, gamma: float, positive_weights: Tensor | None = None
) -> Tensor:
    """Modulated cross-entropy of each element.

    Args:
        logits: (...) before the sigmoid.
        targets: (...) in [0, 1].
        gamma: 0, or at least 1.
        positive_weights: (...) factor of the positive part; None for ones.

    Returns:
        (...), one value an element.
    """
    costs = F.binary_cross_entropy_with_logits(logits, targets, reduction="none", pos_weight=positive_weights)
    return costs * modulation(logits, targets, gamma)


def sparse_focal_cross_entropy(
    logits: Tensor,
    image: Tensor,
    class_: Tensor,
    anchor: Tensor,
    score: Tensor,
    gamma: float,
    weights: Tensor | None = None,
    positive_weights: Tensor | None = None,
) -> Tensor:
    """Sum over all logits; the target is `score` at the given places and 0 elsewhere, as in `sparse_cross_entropy`.

    Every logit is scored as background, and what that is wrong by at the positives is put right. Places do not occur
    twice, unless their score is 0.

    Args:
        logits: (B, C, A).
        image, class_, anchor: (S,) int64, the places whose target is not 0.
        score: (S,) the targets there.
        gamma: at least 1.
        weights: (C,) one factor a class; None for ones.
        positive_weights: (C,) one factor a class for its positive part; None for ones.

    Returns:
        () in float32, or float64 if the logits are. Only the logits get a gradient.
    """
    background = focal_background(logits, gamma, weights)
    said = at_least_float32(logits[image, class_, anchor])  # (S,)
    score = score.to(said.dtype)
    lift = None if positive_weights is None else positive_weights.to(said.dtype)[class_]
    as_object = focal_cross_entropy(said, score, gamma, lift)
    as_background = focal_cross_entropy(said, torch.zeros_like(said), gamma)
    correction = as_object - as_background
    return background + (correction if weights is None else correction * weights.to(said.dtype)[class_]).sum()


def focal_background(logits: Tensor, gamma: float, weights: Tensor | None = None) -> Tensor:
    """() sum of p^γ·softplus(x): what all logits cost if nothing is there, muted where they say so already.

    Args:
        logits: (..., C, A) with weights, of any shape without.
        gamma: at least 1.
        weights: (C,) one factor a class; None for ones.
    """
    background: Tensor = _FocalBackground.apply(logits, weights, gamma)  # type: ignore[no-untyped-call]
    return background


class _FocalBackground(torch.autograd.Function):
    """Sum of p^γ·softplus(x); by hand, so that nothing but the logits is kept for the way back."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, weights: Tensor | None, gamma: float) -> Tensor:
        ctx.save_for_backward(logits, weights)
        ctx.gamma = gamma
        values = at_least_float32(logits)
        costs = F.softplus(values).mul_(values.sigmoid().pow_(gamma))  # (B, C, A)
        return (costs if weights is None else costs * weights.to(costs.dtype)[:, None]).sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits, weights = ctx.saved_tensors
        values = at_least_float32(logits)
        p = values.sigmoid()
        # d/dx p^γ·softplus(x) = p^γ · (γ·(1 − p)·softplus(x) + p)
        gradient = F.softplus(values).mul_(1 - p).mul_(ctx.gamma).add_(p).mul_(p.pow(ctx.gamma))
        gradient.mul_(grad if weights is None else grad * weights.to(grad.dtype)[:, None])
        return gradient.to(logits.dtype), None, None
