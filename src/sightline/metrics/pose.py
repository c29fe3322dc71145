"""The metrics of pose estimation: those of boxes, and the same of keypoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sightline.metrics.average_precision import ap_per_class
from sightline.metrics.detect import DetMetrics
from sightline.metrics.matching import IOU_THRESHOLDS
from sightline.metrics.metric import Metric


class PoseMetrics(DetMetrics):
    """As `DetMetrics`; `pose` has for the similarity of keypoints what `box` has for the overlap of boxes.

    `mean_results` and `class_result` are those of boxes, then of keypoints; `fitness` and `maps` are sums of both.
    """

    def __init__(self, names: Mapping[int, str] | None = None, save_dir: str | Path = ".") -> None:
        super().__init__(names, save_dir)
        self.pose = Metric(len(self.names))
        self._tp_pose: list[np.ndarray] = []

    def reset(self) -> None:
        super().reset()
        self._tp_pose.clear()

    def update(self, *, tp_pose: np.ndarray | None = None, **image: Any) -> None:  # type: ignore[override]
        """Add one image.

        Args:
            tp_pose: (P, 10) bool of `match_predictions` by the similarity of keypoints.
            image: as `DetMetrics.update`.
        """
        if tp_pose is None:
            raise TypeError("PoseMetrics.update needs tp_pose, which predictions are right by their keypoints.")
        super().update(**image)
        self._tp_pose.append(np.asarray(tp_pose, dtype=bool).reshape(-1, len(IOU_THRESHOLDS)))

    def compute(self) -> dict[str, float]:
        stats = self.stats
        self.pose.nc = len(self.names)
        self.pose.update(ap_per_class(stats["tp_pose"], stats["conf"], stats["pred_cls"], stats["target_cls"]))
        self.pose.image_metrics = self._image_metrics(-1.0, self._tp_pose)
        self.pose.image_metrics_best = self._image_metrics(self.pose.best_conf, self._tp_pose)
        return super().compute()

    @property
    def stats(self) -> dict[str, np.ndarray]:
        """As `DetMetrics.stats`, and tp_pose (N, 10)."""
        empty = np.zeros((0, len(IOU_THRESHOLDS)), dtype=bool)
        return {**super().stats, "tp_pose": np.concatenate([empty, *self._tp_pose])}

    def merge(self, state: Mapping[str, Any]) -> None:
        super().merge(state)
        if state["paths"]:
            self._tp_pose += np.split(state["tp_pose"], np.cumsum(state["predictions"])[:-1])

    @property
    def kinds(self) -> dict[str, Metric]:
        return {**super().kinds, "Pose": self.pose}

    @property
    def keys(self) -> list[str]:
        """Names of the eight mean results."""
        return [*super().keys, *(key.replace("(B)", "(P)") for key in super().keys)]

    def mean_results(self) -> list[float]:
        """[mean precision, mean recall, mAP50, mAP50-95] of boxes, then of keypoints."""
        return [*super().mean_results(), *self.pose.mean_results()]

    def class_result(self, i: int) -> tuple[float, ...]:  # type: ignore[override]
        return (*super().class_result(i), *self.pose.class_result(i))

    @property
    def maps(self) -> np.ndarray:
        """(nc,) sum of both APs of every class."""
        return self.box.maps + self.pose.maps

    @property
    def fitness(self) -> float:
        """What decides which epoch is best: the sum of both mAP50-95, at most 2."""
        return self.box.fitness() + self.pose.fitness()

    @property
    def curves(self) -> list[str]:
        return [*super().curves, *(name.replace("(B)", "(P)") for name in super().curves)]

    @property
    def curves_results(self) -> list[list[Any]]:
        return [*super().curves_results, *self.pose.curves_results]

    def summary(self, decimals: int = 5) -> list[dict[str, str | int | float]]:
        """As `DetMetrics.summary`, with Pose-P, Pose-R and Pose-F1."""
        rows = super().summary(decimals)
        for i, row in enumerate(rows):
            for name, values in (("Pose-P", self.pose.p), ("Pose-R", self.pose.r), ("Pose-F1", self.pose.f1)):
                row[name] = round(float(values[i]), decimals)
        return rows
