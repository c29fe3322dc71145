"""How often an image comes in an epoch, so that rare classes are seen more.

Source: repeat factor sampling of LVIS (Gupta et al., arXiv:1908.03195, appendix B). There an epoch grows and shrinks by
chance; here it has one length, because the schedule of a run counts batches.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from sightline.data.index import LabelIndex

ROUNDING = 1e-9  # a sum of square roots that misses a whole number by less than this is that number


class RepeatFactors(NamedTuple):
    """How often something comes in an epoch on average. images: (n,) float64 ≥ 1. classes: (nc,) float64 ≥ 1."""

    images: np.ndarray
    classes: np.ndarray


def repeat_factors(index: LabelIndex, threshold: float, nc: int) -> RepeatFactors:
    """An image comes as often as the rarest of its classes asks for.

    With f the share of the images that hold a class, its factor is max(1, √(threshold / f)); the factor of an image is
    the largest among its classes, and 1 for a background.

    Args:
        threshold: in (0, 1]; classes in fewer images than this share are repeated.
        nc: number of classes.
    """
    count = len(index)
    image = np.repeat(np.arange(count), index.object_counts())  # (R,) which image each object is in
    class_ = index.classes.astype(np.int64)  # (R,)
    holds = np.unique(image * nc + class_)  # one entry for each pair of an image and a class in it
    share = np.bincount(holds % nc, minlength=nc) / max(count, 1)  # (nc,)
    classes = np.ones(nc)
    found = share > 0  # a class that no image holds cannot be repeated
    classes[found] = np.maximum(1.0, np.sqrt(threshold / share[found]))
    images = np.ones(count)
    np.maximum.at(images, holds // nc, classes[holds % nc])
    return RepeatFactors(images, classes)


def repeated_length(factors: np.ndarray) -> int:
    """Images in an epoch, the same in each: the sum of the factors, rounded up."""
    return math.ceil(factors.sum() - ROUNDING)


def repeat_counts(factors: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """How often each image comes in this epoch.

    The factors, scaled up to a whole sum, lie one after the other on a line, in an order of chance; each image counts
    the whole numbers (all shifted by one random number) in its stretch. So a factor of 1.3 gives 1 or 2, 1.3 on
    average over the epochs, every image comes at least once, and the sum is the same in every epoch.

    Args:
        factors: (n,) ≥ 1.

    Returns:
        (n,) int64 ≥ 1; their sum is `repeated_length(factors)`.
    """
    if not len(factors):
        return np.zeros(0, np.int64)
    # The last word keeps this stream apart from those of samples, orders (1) and sizes of batches (2).
    rng = np.random.default_rng([seed, epoch, 0, 3])
    order = rng.permutation(len(factors))
    shift = rng.integers(1 << 20) / (1 << 20)  # few binary places: total + shift is exact and never rounded up
    total = repeated_length(factors)
    ends = np.cumsum(factors[order])
    ends *= total / ends[-1]
    ends[-1] = total
    counts = np.empty(len(factors), np.int64)
    counts[order] = np.diff(np.floor(ends + shift), prepend=0.0)
    return counts
