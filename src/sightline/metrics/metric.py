"""The numbers of one kind of output (boxes; later masks, keypoints), as attributes."""

from __future__ import annotations

from typing import Any

import numpy as np

from sightline.metrics.average_precision import CURVE_POINTS, AveragePrecision
from sightline.metrics.fitness import fitness


class Metric:
    """Precision, recall, F1 and AP by class and on average, plus the curves they come from.

    Arrays by class have one entry for each class that has labelled objects, in the order of `ap_class_index`.

    Attributes:
        p, r, f1: (C,) at IoU 0.5 and the confidence `best_conf`.
        all_ap: (C, 10) AP at IoU 0.50, 0.55, …, 0.95.
        ap_class_index: (C,) int64 class numbers.
        nc: number of classes of the data set, with or without objects.
        p_curve, r_curve, f1_curve: (C, 1000) over the confidences `px`.
        prec_values: (C, 1000) precision over recall.
        best_conf: the confidence in [0, 1] at which the mean F1 of all classes is highest.
        image_metrics: file name → precision, recall, f1, tp, fp, fn of every prediction that reached validation,
            also those of very low confidence.
        image_metrics_best: the same, counting only predictions above `best_conf`.
    """

    def __init__(self, nc: int = 0) -> None:
        self.nc = nc
        self.p: np.ndarray = np.zeros(0)
        self.r: np.ndarray = np.zeros(0)
        self.f1: np.ndarray = np.zeros(0)
        self.all_ap: np.ndarray = np.zeros((0, 10))
        self.ap_class_index: np.ndarray = np.zeros(0, dtype=np.int64)
        self.p_curve: np.ndarray = np.zeros((0, CURVE_POINTS))
        self.r_curve: np.ndarray = np.zeros((0, CURVE_POINTS))
        self.f1_curve: np.ndarray = np.zeros((0, CURVE_POINTS))
        self.px: np.ndarray = np.linspace(0, 1, CURVE_POINTS)
        self.prec_values: np.ndarray = np.zeros((1, CURVE_POINTS))
        self.best_conf = 0.0
        self.image_metrics: dict[str, dict[str, float | int]] = {}
        self.image_metrics_best: dict[str, dict[str, float | int]] = {}

    def update(self, results: AveragePrecision) -> None:
        """Take over the output of `ap_per_class`."""
        self.p, self.r, self.f1 = results.p, results.r, results.f1
        self.all_ap, self.ap_class_index = results.ap, results.classes
        self.p_curve, self.r_curve, self.f1_curve = results.p_curve, results.r_curve, results.f1_curve
        self.px, self.prec_values = results.x, results.prec_values
        self.best_conf = float(results.x[results.best])

    @property
    def ap50(self) -> np.ndarray:
        """(C,) AP at IoU 0.5."""
        return self.all_ap[:, 0]

    @property
    def ap75(self) -> np.ndarray:
        """(C,) AP at IoU 0.75."""
        return self.all_ap[:, 5]

    @property
    def ap(self) -> np.ndarray:
        """(C,) AP, the mean over the ten IoU thresholds."""
        return self.all_ap.mean(axis=1)

    @property
    def mp(self) -> float:
        """Mean precision of the classes; 0.0 without classes, like all means here."""
        return _mean(self.p)

    @property
    def mr(self) -> float:
        """Mean recall."""
        return _mean(self.r)

    @property
    def map50(self) -> float:
        """Mean AP at IoU 0.5."""
        return _mean(self.ap50)

    @property
    def map75(self) -> float:
        """Mean AP at IoU 0.75."""
        return _mean(self.ap75)

    @property
    def map(self) -> float:
        """Mean AP over classes and the ten IoU thresholds."""
        return _mean(self.all_ap)

    @property
    def maps(self) -> np.ndarray:
        """(nc,) AP of every class; a class without labelled objects shows the overall mean."""
        maps = np.full(self.nc, self.map)
        maps[self.ap_class_index] = self.ap
        return maps

    def mean_results(self) -> list[float]:
        """[mean precision, mean recall, mAP50, mAP50-95]."""
        return [self.mp, self.mr, self.map50, self.map]

    def class_result(self, i: int) -> tuple[float, float, float, float]:
        """(precision, recall, AP50, AP50-95) of the class `ap_class_index[i]`."""
        return float(self.p[i]), float(self.r[i]), float(self.ap50[i]), float(self.ap[i])

    def fitness(self) -> float:
        """mAP50-95."""
        return fitness(self.mean_results())

    @property
    def curves_results(self) -> list[list[Any]]:
        """Four curves as [x (1000,), y (C, 1000), title of x, title of y]."""
        return [
            [self.px, self.prec_values, "Recall", "Precision"],
            [self.px, self.f1_curve, "Confidence", "F1"],
            [self.px, self.p_curve, "Confidence", "Precision"],
            [self.px, self.r_curve, "Confidence", "Recall"],
        ]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0
