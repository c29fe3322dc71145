"""Average precision: from scored, matched predictions to precision, recall, F1 and AP of each class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CURVE_POINTS = 1000  # of the curves over confidence and of the precision-recall curve that is drawn
RECALL_POINTS = 101  # of the integral, as in COCO
EPSILON = 1e-16


class AveragePrecision(NamedTuple):
    """Numbers of the C classes that have labelled objects; every array is float64.

    The order of the fields is the one people unpack.
    """

    tp: np.ndarray  # (C,) true positives at IoU 0.5 and the confidence of the best mean F1
    fp: np.ndarray  # (C,)
    p: np.ndarray  # (C,) precision there
    r: np.ndarray  # (C,) recall there
    f1: np.ndarray  # (C,)
    ap: np.ndarray  # (C, K) area under the precision-recall curve, by IoU threshold
    classes: np.ndarray  # (C,) int64, ascending
    p_curve: np.ndarray  # (C, 1000) precision over confidence, at IoU 0.5
    r_curve: np.ndarray  # (C, 1000)
    f1_curve: np.ndarray  # (C, 1000)
    x: np.ndarray  # (1000,) the confidences (and recalls) of the curves, 0 to 1
    prec_values: np.ndarray  # (C, 1000) precision over recall at IoU 0.5; one row of zeros when C is 0
    best: int = 0  # the index into `x` of the best mean F1


def ap_per_class(tp: np.ndarray, conf: np.ndarray, pred_cls: np.ndarray, target_cls: np.ndarray) -> AveragePrecision:
    """Rank the predictions of each class by score and measure how precision falls as recall grows.

    Predictions of a class that no image holds say nothing about recall and are left out.

    Args:
        tp: (N, K) bool, right at each of K IoU thresholds; the first is 0.5.
        conf: (N,) scores in [0, 1]. Equal scores keep their order.
        pred_cls: (N,) predicted class.
        target_cls: (M,) class of every labelled object.

    Source: the 101-point interpolation of COCO (Lin et al., arXiv:1405.0312), with a trapezoid instead of a mean,
    so that a perfect class scores 0.995. The exact COCO numbers come from `metrics/coco.py`.
    """
    tp, conf, pred_cls = np.asarray(tp, dtype=bool), np.asarray(conf), np.asarray(pred_cls)
    classes, totals = np.unique(np.asarray(target_cls), return_counts=True)
    count, thresholds = len(classes), tp.shape[1]
    x = np.linspace(0, 1, CURVE_POINTS)
    ap = np.zeros((count, thresholds))
    p_curve, r_curve = np.zeros((2, count, CURVE_POINTS))
    prec_values = np.zeros((max(count, 1), CURVE_POINTS))

    order = np.lexsort((-conf, pred_cls))  # stable: by class, in it by falling score
    sorted_classes = pred_cls[order]
    starts = np.searchsorted(sorted_classes, classes, side="left")
    ends = np.searchsorted(sorted_classes, classes, side="right")
    for i, (start, end, total) in enumerate(zip(starts, ends, totals, strict=True)):
        if start == end:
            continue
        rows = order[start:end]
        true_positives = tp[rows].cumsum(axis=0)  # (n, K)
        recall = true_positives / (total + EPSILON)
        precision = true_positives / np.arange(1, end - start + 1)[:, None]
        # np.interp wants rising positions, confidences fall: both signs are turned. Above the highest score nothing
        # is found, so recall is 0 and precision 1 there.
        scores = conf[rows]
        r_curve[i] = np.interp(-x, -scores, recall[:, 0], left=0)
        p_curve[i] = np.interp(-x, -scores, precision[:, 0], left=1)
        recall, precision = precision_envelope(recall, precision)
        ap[i] = [area(recall[:, k], precision[:, k]) for k in range(thresholds)]
        prec_values[i] = np.interp(x, recall[:, 0], precision[:, 0])

    f1_curve = 2 * p_curve * r_curve / (p_curve + r_curve + EPSILON)
    best = int(smooth(f1_curve.mean(axis=0), 0.1).argmax()) if count else 0
    p, r, f1 = p_curve[:, best], r_curve[:, best], f1_curve[:, best]
    true_positives = (r * totals).round()
    false_positives = (true_positives / (p + EPSILON) - true_positives).round()
    return AveragePrecision(
        true_positives,
        false_positives,
        p,
        r,
        f1,
        ap,
        classes.astype(np.int64),
        p_curve,
        r_curve,
        f1_curve,
        x,
        prec_values,
        best,
    )


def precision_envelope(recall: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best precision still to come at each recall, closed at both ends.

    Args:
        recall: (n, …) rising along the first axis.
        precision: (n, …).

    Returns:
        Both (n + 3, …): recall from 0 to 1, precision that never rises; it drops to 0 just behind the last recall.
    """
    edge = np.zeros_like(recall[:1])
    recall = np.concatenate([edge, recall, recall[-1:], edge + 1])
    precision = np.concatenate([edge + 1, precision, edge, edge])
    return recall, np.maximum.accumulate(precision[::-1], axis=0)[::-1]


def area(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area under a closed curve (both (n,)), by the trapezoid rule on 101 evenly spaced recalls."""
    values = np.interp(np.linspace(0, 1, RECALL_POINTS), recall, precision)
    return float((values.sum() - (values[0] + values[-1]) / 2) / (RECALL_POINTS - 1))


def compute_ap(recall: np.ndarray, precision: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """AP of one curve, with the envelope it was taken from: (ap, precision (n + 3,), recall (n + 3,))."""
    recall, precision = precision_envelope(np.asarray(recall), np.asarray(precision))
    return area(recall, precision), precision, recall


def smooth(values: np.ndarray, fraction: float = 0.05) -> np.ndarray:
    """Box filter over about 2 × `fraction` of the (n,) values; the ends are repeated.

    Returns:
        (n,), or (n + 1,) when the filter comes out an even number of values wide (never for curves of 1000 points).
    """
    width = round(len(values) * fraction * 2) // 2 + 1
    padding = np.ones(width // 2)
    padded = np.concatenate([padding * values[0], values, padding * values[-1]])
    return np.convolve(padded, np.ones(width) / width, mode="valid")
