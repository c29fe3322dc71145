"""validation.json: what the last validation of a run found, as numbers: by class, as curves, as a confusion matrix.

The tables of a report and of other programs are made of it, so it holds plain values with names and no settings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sightline.files import atomic_write

NAME = "validation.json"
VERSION = 1
CURVE_POINTS = 101  # of 1000: a page shows no more
CLASSES_WITH_CURVES = 20  # with the most objects; the means are always there
MATRIX_CLASSES = 200  # a larger matrix is left out: nobody can look at it, and it grows with the square
DIGITS = 5


def write_validation(folder: Path, record: Mapping[str, Any]) -> Path:
    """Write the file.

    Raises:
        OutputError: it cannot be written.
    """
    target = folder / NAME
    with atomic_write(target, "w", durable=False, encoding="utf-8") as file:
        json.dump({"version": VERSION, **record}, file, ensure_ascii=False, allow_nan=False)
    return target


def read_validation(folder: Path) -> dict[str, Any] | None:
    """What is in the file; None where there is none, or one of another kind."""
    try:
        record = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("version") == VERSION else None


def record_of(metrics: Any, *, images: int, speed: Mapping[str, float], conf: float | None = None) -> dict[str, Any]:
    """Numbers of a metrics object (`metrics.detect.DetMetrics` or a child of it).

    Args:
        metrics: after `compute`.
        images: that were validated.
        speed: milliseconds an image by stage.
        conf: from which score on predictions count in the confusion matrix and in the best and worst images.
    """
    names: Mapping[int, str] = metrics.names
    classes = [int(number) for number in metrics.ap_class_index]
    order = sorted(range(len(classes)), key=lambda i: -int(metrics.nt_per_class[classes[i]]))[:CLASSES_WITH_CURVES]
    return {
        "images": images,
        "conf": conf,
        "metrics": {name: _number(value) for name, value in metrics.results_dict.items()},
        "speed": {stage: _number(value) for stage, value in speed.items()},
        "classes": [_class_row(metrics, names, classes, number) for number in sorted(names)],
        "curves": {kind: _curves(metric, names, classes, order) for kind, metric in metrics.kinds.items()},
        "confusion": _confusion(getattr(metrics, "confusion_matrix", None)),
    }


def _class_row(metrics: Any, names: Mapping[int, str], classes: Sequence[int], number: int) -> dict[str, Any]:
    """A class without objects has no numbers: it is there, with None."""
    row: dict[str, Any] = {
        "name": str(names[number]),
        "images": int(metrics.nt_per_image[number]),
        "objects": int(metrics.nt_per_class[number]),
    }
    for kind, metric in metrics.kinds.items():
        i = classes.index(number) if number in classes else None
        values = {
            "precision": metric.p,
            "recall": metric.r,
            "f1": metric.f1,
            "mAP50": metric.ap50,
            "mAP50-95": metric.ap,
        }
        row[kind] = {name: None if i is None else _number(column[i]) for name, column in values.items()}
    return row


def _curves(metric: Any, names: Mapping[int, str], classes: Sequence[int], order: Sequence[int]) -> dict[str, Any]:
    """Precision over recall, and F1, precision and recall over confidence: the mean and the largest classes."""
    x = np.linspace(0, len(metric.px) - 1, CURVE_POINTS).round().astype(int)
    found: dict[str, Any] = {
        "x": _numbers(np.asarray(metric.px)[x]),
        "best_conf": _number(metric.best_conf),
        "classes": [str(names[classes[i]]) for i in order],
    }
    for name, curve in (
        ("pr", metric.prec_values),
        ("f1", metric.f1_curve),
        ("precision", metric.p_curve),
        ("recall", metric.r_curve),
    ):
        rows = np.asarray(curve)[: len(classes)]
        mean = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[-1])
        found[name] = {"mean": _numbers(mean[x]), "classes": [_numbers(rows[i][x]) for i in order]}
    return found


def _confusion(confusion: Any) -> dict[str, Any] | None:
    """Rows predicted, columns true, the last of each the background."""
    if confusion is None or not 0 < confusion.nc <= MATRIX_CLASSES:
        return None
    return {
        "names": [str(confusion.names[number]) for number in sorted(confusion.names)],
        "matrix": confusion.matrix.astype(int).tolist(),
    }


def _numbers(values: np.ndarray) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: Any) -> float | None:
    value = float(value)
    return round(value, DIGITS) if math.isfinite(value) else None
