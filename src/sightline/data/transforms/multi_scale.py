"""Batches of changing size, so that one network copes with several. The trainer resizes on the device."""

from __future__ import annotations

import math

import numpy as np


def multi_scale_size(imgsz: int, share: float, stride: int, *, seed: int, epoch: int, iteration: int) -> int:
    """Side of this batch in pixels: a multiple of `stride` in imgsz · (1 ± share), the same on every rank.

    Args:
        share: half the width of the range, as a share of `imgsz`; 0 gives `imgsz`.
        iteration: number of the batch in the epoch.
    """
    if not share:
        return imgsz
    low, high = max(stride, int(imgsz * (1 - share))), int(imgsz * (1 + share) + stride)
    # The last word keeps this stream apart from those of samples and orders.
    return int(np.random.default_rng([seed, epoch, iteration, 2]).integers(low, high)) // stride * stride


def multi_scale_shape(shape_hw: tuple[int, int], size: int, stride: int) -> tuple[int, int]:
    """(height, width) of a batch of `shape_hw` when its longer side becomes `size`, both multiples of `stride`."""
    factor = size / max(shape_hw)
    height, width = (math.ceil(side * factor / stride) * stride for side in shape_hw)
    return height, width
