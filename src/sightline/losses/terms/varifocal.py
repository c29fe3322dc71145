"""Varifocal loss: objects count by how well their box fits, background by how wrong it is.

A query that is matched has, in its class, the overlap q of its box with the object as target, and weighs q; everything
else has target 0 and weighs α·pᵞ. Almost all is background, so every logit is scored as that and the few matches are
put right.

Source: Zhang et al., VarifocalNet, arXiv:2008.13367; γ as in Lv et al., RT-DETR, arXiv:2304.08069.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sightline.losses.precision import at_least_float32
from sightline.losses.terms.focal import focal_background


def varifocal_sum(
    logits: Tensor,
    places: tuple[Tensor, ...],
    quality: Tensor,
    background: Tensor,
    gamma: float,
    *,
    weights: Tensor | None = None,
    positive_weights: Tensor | None = None,
) -> Tensor:
    """() sum over all logits.

    Args:
        logits: (..., C) before the sigmoid, in any float type; computed in float32 at least.
        places: one (S,) int64 for each axis of the logits: the matches and their classes. No place occurs twice.
        quality: (S,) in [0, 1], without gradient: the targets there.
        background: () α.
        gamma: γ, at least 1.
        weights: (C,) one factor a class; None for ones.
        positive_weights: (C,) one factor a class for the positive part of its objects; None for ones.
    """
    matched = at_least_float32(logits[places])  # (S,)
    quality = quality.to(matched.dtype)
    background = background.to(matched.dtype)
    cost = F.softplus(matched)
    as_object = (cost - quality * matched) * quality
    as_background = cost * matched.sigmoid() ** gamma
    if positive_weights is not None:  # −ln p = softplus(−x), which is softplus(x) − x, counts as often as they say
        lift = positive_weights.to(matched)[places[-1]] - 1
        as_object = as_object + lift * quality * (cost - matched) * quality
    if weights is None:
        return as_object.sum() + background * (focal_background(logits, gamma) - as_background.sum())
    weight = weights.to(matched)[places[-1]]
    everywhere = focal_background(logits.transpose(-1, -2), gamma, weights.to(matched))
    return (as_object * weight).sum() + background * (everywhere - (as_background * weight).sum())
