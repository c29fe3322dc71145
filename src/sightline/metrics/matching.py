"""Which predictions are right, at each of ten overlaps."""

from __future__ import annotations

import numpy as np

# 0.50, 0.55, …, 0.95. In float32 like the overlaps, because an overlap of exactly 0.7 must count at 0.7.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10).astype(np.float32)


def match_predictions(
    predicted_classes: np.ndarray,
    true_classes: np.ndarray,
    overlap: np.ndarray,
    *,
    thresholds: np.ndarray = IOU_THRESHOLDS,
) -> np.ndarray:
    """Pair predictions with labelled objects of the same class, for every threshold on its own.

    Predictions choose in the order given (highest score first): each takes the object with the largest overlap that
    is still free at that threshold, if the overlap reaches it. Of equal overlaps the object listed first is taken.

    Args:
        predicted_classes: (P,) class of each prediction.
        true_classes: (T,) class of each labelled object.
        overlap: (T, P) in [0, 1], any measure (box IoU, mask IoU, keypoint similarity).
        thresholds: (K,) ascending, at most 62.

    Returns:
        (P, K) bool, True where the prediction is a true positive. All False when either side is empty.

    Source: Everingham et al., The Pascal Visual Object Classes Challenge, IJCV 2010, section 4.2; the ten thresholds
    are those of COCO (Lin et al., arXiv:1405.0312).
    """
    thresholds = np.asarray(thresholds, dtype=np.float32)
    count = len(predicted_classes)
    if count == 0 or len(true_classes) == 0:
        return np.zeros((count, len(thresholds)), dtype=bool)
    overlap = np.asarray(overlap, dtype=np.float32)
    same_class = np.asarray(true_classes)[:, None] == np.asarray(predicted_classes)[None, :]  # (T, P)
    truth, prediction = np.nonzero(same_class & (overlap >= thresholds[0]))
    values = overlap[truth, prediction]
    order = np.lexsort((truth, -values, prediction))  # by prediction, then the best overlap, then the first object
    reached = np.searchsorted(thresholds, values[order], side="right")  # how many thresholds each pair reaches

    # One bit a threshold, so that a handful of integer operations settles a pair at all thresholds at once.
    used = [0] * len(true_classes)  # by object: thresholds at which it is taken
    right = [0] * count  # by prediction: thresholds at which it is a true positive
    pairs = zip(prediction[order].tolist(), truth[order].tolist(), reached.tolist(), strict=True)
    for predicted, true, number in pairs:
        new = ((1 << number) - 1) & ~used[true] & ~right[predicted]
        used[true] |= new
        right[predicted] |= new
    bits = np.array(right, dtype=np.int64)
    return (bits[:, None] >> np.arange(len(thresholds))) & 1 == 1


def match_any_class(overlap: np.ndarray, scores: np.ndarray, *, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Pair predictions with objects whatever their classes: the highest score first, each the best that is still free.

    Args:
        overlap: (T, P) overlap of each object with each prediction.
        scores: (P,) in any order; equal scores choose in the order given.
        threshold: pairs must overlap more than this.

    Returns:
        Two int arrays of one length: the prediction and the object of each pair.
    """
    truth, prediction = np.nonzero(overlap > threshold)
    values = overlap[truth, prediction]
    order = np.lexsort((truth, -values, prediction, -np.asarray(scores)[prediction]))
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for predicted, true in zip(prediction[order].tolist(), truth[order].tolist(), strict=True):
        if predicted not in partner and true not in taken:
            partner[predicted] = true
            taken.add(true)
    return np.array(list(partner), dtype=np.int64), np.array(list(partner.values()), dtype=np.int64)
