"""The metrics of a detector: collected image by image, computed once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sightline.metrics.average_precision import ap_per_class
from sightline.metrics.confusion import ConfusionMatrix
from sightline.metrics.image_metrics import counts_to_metrics, distinct_names
from sightline.metrics.logged import logged_values
from sightline.metrics.matching import IOU_THRESHOLDS
from sightline.metrics.metric import Metric
from sightline.metrics.tables import rows_to_csv, rows_to_frame, rows_to_json

STAGES = ("preprocess", "inference", "loss", "postprocess")


class DetMetrics:
    """`reset`, `update` for every image, `compute` at the end; then the attributes hold the results.

    Attributes:
        names: class index → name, of the data set.
        box: precision, recall, AP and curves of the boxes.
        speed: milliseconds an image for each of preprocess, inference, loss, postprocess.
        save_dir: where the pictures of this validation lie.
        confusion_matrix: filled by the validator when it draws, else None.
        nt_per_class: (nc,) int64 labelled objects of each class.
        nt_per_image: (nc,) int64 images that hold each class.
        coco: the numbers of the COCO evaluation (AP, AP50, …), empty unless it was asked for.
        log: full names of further numbers that `results_dict` has, see `logged.py`.
    """

    def __init__(self, names: Mapping[int, str] | None = None, save_dir: str | Path = ".") -> None:
        self.names: dict[int, str] = dict(names or {})
        self.save_dir = Path(save_dir)
        self.box = Metric(len(self.names))
        self.speed: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self.confusion_matrix: ConfusionMatrix | None = None
        self.nt_per_class: np.ndarray = np.zeros(len(self.names), dtype=np.int64)
        self.nt_per_image: np.ndarray = np.zeros(len(self.names), dtype=np.int64)
        self.coco: dict[str, float] = {}
        self.log: tuple[str, ...] = ()
        self._tp: list[np.ndarray] = []
        self._conf: list[np.ndarray] = []
        self._pred_cls: list[np.ndarray] = []
        self._target_cls: list[np.ndarray] = []
        self._paths: list[str] = []

    def reset(self) -> None:
        """Forget all images. Results of an earlier `compute` stay readable until the next."""
        for state in (self._tp, self._conf, self._pred_cls, self._target_cls, self._paths):
            state.clear()

    def update(
        self, *, tp: np.ndarray, conf: np.ndarray, pred_cls: np.ndarray, target_cls: np.ndarray, path: str = ""
    ) -> None:
        """Add one image.

        Args:
            tp: (P, 10) bool of `match_predictions`.
            conf: (P,) scores.
            pred_cls: (P,) predicted classes.
            target_cls: (T,) classes of the labelled objects.
            path: the image file; its name becomes the key in `image_metrics`.
        """
        self._tp.append(np.asarray(tp, dtype=bool).reshape(-1, len(IOU_THRESHOLDS)))
        self._conf.append(np.asarray(conf))
        self._pred_cls.append(np.asarray(pred_cls))
        self._target_cls.append(np.asarray(target_cls))
        self._paths.append(str(path))

    def compute(self) -> dict[str, float]:
        """Turn what was collected into the attributes; returns `results_dict`."""
        stats = self.stats
        self.box.nc = len(self.names)
        self.box.update(ap_per_class(stats["tp"], stats["conf"], stats["pred_cls"], stats["target_cls"]))
        self.nt_per_class = self._count(stats["target_cls"])
        images = [np.unique(classes) for classes in self._target_cls]
        self.nt_per_image = self._count(np.concatenate(images) if images else np.zeros(0))
        self.box.image_metrics = self._image_metrics(conf=-1.0)
        self.box.image_metrics_best = self._image_metrics(conf=self.box.best_conf)
        return self.results_dict

    @property
    def stats(self) -> dict[str, np.ndarray]:
        """What was collected, all images in a row: tp (N, 10), conf (N,), pred_cls (N,), target_cls (M,)."""
        empty = np.zeros(0, dtype=np.float32)
        return {
            "tp": np.concatenate([np.zeros((0, len(IOU_THRESHOLDS)), dtype=bool), *self._tp]),
            "conf": np.concatenate([empty, *self._conf]),
            "pred_cls": np.concatenate([empty, *self._pred_cls]),
            "target_cls": np.concatenate([empty, *self._target_cls]),
        }

    def state_dict(self) -> dict[str, Any]:
        """What was collected as plain arrays and strings, for another process: see `merge`."""
        return {
            **self.stats,
            "predictions": np.array([len(conf) for conf in self._conf], dtype=np.int64),
            "targets": np.array([len(classes) for classes in self._target_cls], dtype=np.int64),
            "paths": list(self._paths),
        }

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add the images of another process (its `state_dict`) behind those collected here."""
        predictions, targets = np.cumsum(state["predictions"])[:-1], np.cumsum(state["targets"])[:-1]
        if not state["paths"]:
            return
        self._tp += np.split(state["tp"], predictions)
        self._conf += np.split(state["conf"], predictions)
        self._pred_cls += np.split(state["pred_cls"], predictions)
        self._target_cls += np.split(state["target_cls"], targets)
        self._paths += state["paths"]

    def _count(self, classes: np.ndarray) -> np.ndarray:
        return np.bincount(classes.astype(np.int64), minlength=len(self.names))

    def _image_metrics(
        self, conf: float, tp_of_images: list[np.ndarray] | None = None
    ) -> dict[str, dict[str, float | int]]:
        right_ones = self._tp if tp_of_images is None else tp_of_images
        names = distinct_names(self._paths)
        metrics = {}
        for name, tp, scores, targets in zip(names, right_ones, self._conf, self._target_cls, strict=True):
            kept = scores > conf
            right = int(np.count_nonzero(tp[kept, 0]))
            metrics[name] = counts_to_metrics(right, int(np.count_nonzero(kept)), len(targets))
        return metrics

    @property
    def kinds(self) -> dict[str, Metric]:
        """What is measured, by the word that files of curves begin with."""
        return {"Box": self.box}

    @property
    def letters(self) -> list[str]:
        """What stands in brackets behind the names of each of `kinds`."""
        return [kind[0] for kind in self.kinds]

    @property
    def keys(self) -> list[str]:
        """Names of the four mean results."""
        return ["metrics/precision(B)", "metrics/recall(B)", "metrics/mAP50(B)", "metrics/mAP50-95(B)"]

    def mean_results(self) -> list[float]:
        """[mean precision, mean recall, mAP50, mAP50-95]."""
        return self.box.mean_results()

    def class_result(self, i: int) -> tuple[float, float, float, float]:
        """(precision, recall, AP50, AP50-95) of the class `ap_class_index[i]`."""
        return self.box.class_result(i)

    @property
    def maps(self) -> np.ndarray:
        """(nc,) AP of every class."""
        return self.box.maps

    @property
    def fitness(self) -> float:
        """What decides which epoch is best: mAP50-95."""
        return self.box.fitness()

    @property
    def ap_class_index(self) -> np.ndarray:
        """(C,) the classes that have labelled objects."""
        return self.box.ap_class_index

    @property
    def results_dict(self) -> dict[str, float]:
        """The mean results, `fitness`, `metrics/coco/…` when the COCO evaluation ran, and what `log` names."""
        results = dict(zip(self.keys, self.mean_results(), strict=True))
        results["fitness"] = self.fitness
        results.update({f"metrics/coco/{name}": value for name, value in self.coco.items()})
        results.update(logged_values(self, self.log))
        return results

    @property
    def curves(self) -> list[str]:
        """Names of the curves in `curves_results`."""
        return ["Precision-Recall(B)", "F1-Confidence(B)", "Precision-Confidence(B)", "Recall-Confidence(B)"]

    @property
    def curves_results(self) -> list[list[Any]]:
        """Four curves as [x, y (C, 1000), title of x, title of y]."""
        return self.box.curves_results

    def summary(self, decimals: int = 5) -> list[dict[str, str | int | float]]:
        """One row for each class with labelled objects, rounded for reading."""
        box = self.box
        return [
            {
                "Class": self.names[int(number)],
                "Images": int(self.nt_per_image[number]),
                "Instances": int(self.nt_per_class[number]),
                "Box-P": round(float(box.p[i]), decimals),
                "Box-R": round(float(box.r[i]), decimals),
                "Box-F1": round(float(box.f1[i]), decimals),
                "mAP50": round(float(box.ap50[i]), decimals),
                "mAP75": round(float(box.ap75[i]), decimals),
                "mAP50-95": round(float(box.ap[i]), decimals),
            }
            for i, number in enumerate(box.ap_class_index)
        ]

    def to_df(self, decimals: int = 5) -> Any:
        """The summary as a polars DataFrame (extra `dataframe`)."""
        return rows_to_frame(self.summary(decimals))

    def to_csv(self, decimals: int = 5) -> str:
        """The summary as CSV text."""
        return rows_to_csv(self.summary(decimals))

    def to_json(self, decimals: int = 5) -> str:
        """The summary as JSON text."""
        return rows_to_json(self.summary(decimals))
