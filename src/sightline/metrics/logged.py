"""Numbers that a validation can log beside the four means: what they are called, and where they come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from sightline.errors import SettingValueError
from sightline.metrics.expression import names_of, nearest

if TYPE_CHECKING:
    from sightline.metrics.detect import DetMetrics
    from sightline.metrics.metric import Metric

# One number for the whole validation. Where no class is named, `f1` is the mean over the classes, as `precision` is.
OVERALL: dict[str, Callable[[DetMetrics], float]] = {
    "precision": lambda metrics: metrics.box.mp,
    "recall": lambda metrics: metrics.box.mr,
    "f1": lambda metrics: float(metrics.box.f1.mean()) if len(metrics.box.f1) else 0.0,
    "mAP50": lambda metrics: metrics.box.map50,
    "mAP75": lambda metrics: metrics.box.map75,
    "mAP50-95": lambda metrics: metrics.box.map,
    "best_conf": lambda metrics: metrics.box.best_conf,
    # counts over all images, at IoU 0.5 and the confidence `best_conf`
    "tp": lambda metrics: _over_images(metrics, "tp", np.sum),
    "fp": lambda metrics: _over_images(metrics, "fp", np.sum),
    "fn": lambda metrics: _over_images(metrics, "fn", np.sum),
    # means over images of what each image has by itself, there
    "image_precision": lambda metrics: _over_images(metrics, "precision", np.mean),
    "image_recall": lambda metrics: _over_images(metrics, "recall", np.mean),
    "image_f1": lambda metrics: _over_images(metrics, "f1", np.mean),
}
# (C,) one number for each class with labelled objects.
BY_CLASS: dict[str, Callable[[Metric], np.ndarray]] = {
    "precision": lambda box: box.p,
    "recall": lambda box: box.r,
    "f1": lambda box: box.f1,
    "AP50": lambda box: box.ap50,
    "AP75": lambda box: box.ap75,
    "AP": lambda box: box.ap,
}


def loggable_keys(names: Mapping[int, str]) -> list[str]:
    """The full name of every number: `metrics/f1(B)` and so on, then `metrics/f1(B)/RBC` for each class."""
    by_class = [f"metrics/{what}(B)/{name}" for what in BY_CLASS for name in names.values()]
    return [*(f"metrics/{what}(B)" for what in OVERALL), *by_class]


def chosen_keys(wanted: Iterable[str], names: Mapping[int, str], *, setting: str = "log_metrics") -> list[str]:
    """Full names of what was asked for, each once.

    Args:
        wanted: `f1` (or in full, `metrics/f1(B)`), `f1/RBC` for one class, `f1/*` for every class.
        names: class index → name, of the data set.

    Raises:
        SettingValueError: there is no such number, or no such class.
    """
    known = names_of(loggable_keys(names))
    keys: dict[str, None] = {}
    for name in wanted:
        what = name.removesuffix("/*").removeprefix("metrics/").removesuffix("(B)")
        if name in known:
            keys.update(dict.fromkeys(known[name]))
        elif name.endswith("/*") and what in BY_CLASS:
            keys.update(dict.fromkeys(f"metrics/{what}(B)/{class_}" for class_ in names.values()))
        else:
            possible = [*OVERALL, *(f"{each}/*" for each in BY_CLASS), *known]
            question = nearest(name, possible)
            raise SettingValueError(
                f"{setting}: '{name}' is not among the numbers of a validation. {f'{question} ' if question else ''}"
                f"For all classes there are {', '.join(OVERALL)}; for one class or each "
                f"({_example(names)}, 'f1/*') {', '.join(BY_CLASS)}."
            )
    return list(keys)


def logged_values(metrics: DetMetrics, keys: Iterable[str]) -> dict[str, float]:
    """The numbers with these full names, after `compute`. A class without labelled objects has NaN."""
    places = {metrics.names[int(number)]: place for place, number in enumerate(metrics.ap_class_index)}
    values = {}
    for key in keys:
        what, _, class_ = key.removeprefix("metrics/").partition("(B)")
        if not class_:
            values[key] = float(OVERALL[what](metrics))
        else:
            place = places.get(class_.removeprefix("/"))
            values[key] = math.nan if place is None else float(BY_CLASS[what](metrics.box)[place])
    return values


def _over_images(metrics: DetMetrics, what: str, reduce: Callable[[list[float]], float]) -> float:
    found = [image[what] for image in metrics.box.image_metrics_best.values()]
    return float(reduce(found)) if found else 0.0


def _example(names: Mapping[int, str]) -> str:
    return f"'f1/{next(iter(names.values()), 'name')}'"
