"""Weights that lift rare classes, from the label counts of the training set."""

from __future__ import annotations

import torch
from torch import Tensor


def class_weights(counts: Tensor, power: float) -> Tensor:
    """Weights that lift rare classes.

    Args:
        counts: (C,) training labels of each class.
        power: 0 gives equal weights, 1 the inverse of the counts.

    Returns:
        (C,) float32 with mean 1. A class without labels gets the mean of those with. Ones if there are no labels.
    """
    counts = counts.float()
    present = counts > 0
    if power == 0 or not bool(present.any()):
        return torch.ones_like(counts)
    weights = torch.where(present, (1 / counts.clamp(min=1)).pow(power), 0)
    weights = torch.where(present, weights, weights[present].mean())
    return weights / weights.mean()


def positive_weights(counts: Tensor) -> Tensor:
    """Weights of the positive part of each class that make up for how seldom it occurs.

    Args:
        counts: (C,) training labels of each class.

    Returns:
        (C,) float32: the largest count divided by the class's own, so 1 for the most frequent class. 1 for a class
        without labels, whose positive part never occurs.
    """
    counts = counts.float()
    if not len(counts):
        return counts
    return torch.where(counts > 0, counts.max() / counts.clamp(min=1), 1)
