"""Classification: cross-entropy over every anchor and class, without a table of targets.

Almost all targets are 0, so instead of filling a (B, A, C) table to read it once, every logit is scored as background
and the few positives are corrected: for a target t, cross-entropy(x, t) = softplus(x) − t·x. With a weight p on the
positive part that is softplus(x) + t·((p − 1)·softplus(x) − p·x). Where the weights
come from, softer targets and a cost that depends on how wrong an element is: class_weights.py, smoothing.py, focal.py.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.losses.precision import at_least_float32


def sparse_cross_entropy(
    logits: Tensor,
    image: Tensor,
    class_: Tensor,
    anchor: Tensor,
    score: Tensor,
    weights: Tensor | None = None,
    positive_weights: Tensor | None = None,
) -> Tensor:
    """Sum of binary cross-entropies of all logits; the target is `score` at the given places and 0 elsewhere.

    Args:
        logits: (B, C, A) before the sigmoid, in any float type; computed in float32 at least.
        image: (S,) int64, with `class_` and `anchor` the places whose target is not 0. A place that occurs twice has
            the sum as its target.
        class_: (S,) int64.
        anchor: (S,) int64.
        score: (S,) the targets there.
        weights: (C,) one factor a class, for its positive and negative part; None for ones.
        positive_weights: (C,) one factor a class for its positive part only, as `pos_weight` of
            `torch.nn.BCEWithLogitsLoss`; None for ones.

    Returns:
        () in float32, or float64 if the logits are. Only the logits get a gradient.
    """
    loss: Tensor = _SparseCrossEntropy.apply(  # type: ignore[no-untyped-call]
        logits, image, class_, anchor, score, weights, positive_weights
    )
    return loss


class _SparseCrossEntropy(torch.autograd.Function):
    """By hand, because autograd would make four tensors of the size of the logits where one is enough."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        image: Tensor,
        class_: Tensor,
        anchor: Tensor,
        score: Tensor,
        weights: Tensor | None,
        positive_weights: Tensor | None,
    ) -> Tensor:
        said = at_least_float32(logits[image, class_, anchor])  # (S,)
        score = score.to(said.dtype)
        weights = None if weights is None else weights.to(said.dtype)
        lift = None if positive_weights is None else positive_weights.to(said.dtype)[class_]  # (S,)
        ctx.save_for_backward(logits, image, class_, anchor, score, weights, lift)
        if lift is None:
            positive = said * score
        else:
            positive = (lift * said - (lift - 1) * F.softplus(said)) * score
        if weights is not None:
            positive = positive * weights[class_]
        if logits.is_cuda:
            background = _background(logits, weights)
        else:  # one image at a time stays in the cache: twice as fast as the whole batch
            parts = [_background(part, weights) for part in logits]
            background = torch.stack(parts).sum() if parts else logits.new_zeros(())
        return background - positive.sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits, image, class_, anchor, score, weights, lift = ctx.saved_tensors
        factor = grad if weights is None else grad * weights[:, None]  # () or (C, 1)
        at_positives = -score * (grad if weights is None else grad * weights[class_])
        gradient = at_least_float32(logits).sigmoid()  # (B, C, A)
        if lift is not None:
            at_positives = at_positives * (lift - (lift - 1) * gradient[image, class_, anchor])
        gradient.mul_(factor).index_put_((image, class_, anchor), at_positives, accumulate=True)
        return gradient.to(logits.dtype), None, None, None, None, None, None


def _background(logits: Tensor, weights: Tensor | None) -> Tensor:
    """() sum over (..., C, A) of what every logit costs if nothing is there."""
    costs = F.softplus(at_least_float32(logits))
    if weights is None:
        return costs.sum()
    return (costs * weights[:, None]).sum()
