"""How well predicted keypoints agree with labelled ones: what IoU is to boxes."""

from __future__ import annotations

import numpy as np


def keypoint_similarity(true: np.ndarray, predicted: np.ndarray, area: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Object keypoint similarity (OKS) of every labelled object with every prediction.

    Args:
        true: (T, K, 3) x, y, visibility; points of visibility 0 don't count.
        predicted: (P, K, 2 or 3) x, y in the same units.
        area: (T,) of each object, in squared units.
        sigmas: (K,) how far apart two people place the point, relative to the size of the object.

    Returns:
        (T, P) in [0, 1]; 0 for an object without visible points.

    Source: the COCO keypoint challenge, https://cocodataset.org/#keypoints-eval.
    """
    distance = ((true[:, None, :, :2] - predicted[None, :, :, :2]) ** 2).sum(axis=-1)  # (T, P, K), squared
    scale = (2 * sigmas) ** 2 * (area[:, None, None] + 1e-7) * 2
    visible = true[:, None, :, 2] != 0  # (T, 1, K)
    return (np.exp(-distance / scale) * visible).sum(axis=-1) / (visible.sum(axis=-1) + 1e-7)
