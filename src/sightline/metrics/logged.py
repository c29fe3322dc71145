"""Numbers that a validation can log beside the four means: what they are called, and where they come from."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sightline.errors import SettingValueError
from sightline.metrics.expression import names_of, nearest

if TYPE_CHECKING:
    from sightline.metrics.detect import DetMetrics
    from sightline.metrics.metric import Metric

# What the letter behind a name means. A kind of `DetMetrics.kinds` begins with its letter.
MEASURED = {"B": "boxes", "P": "keypoints"}

# One number for the whole validation. Where no class is named, `f1` is the mean over the classes, as `precision` is.
OVERALL: dict[str, Callable[[Metric], float]] = {
    "precision": lambda metric: metric.mp,
    "recall": lambda metric: metric.mr,
    "f1": lambda metric: float(metric.f1.mean()) if len(metric.f1) else 0.0,
    "mAP50": lambda metric: metric.map50,
    "mAP75": lambda metric: metric.map75,
    "mAP50-95": lambda metric: metric.map,
    "best_conf": lambda metric: metric.best_conf,
    # counts over all images, at IoU (of keypoints: OKS) 0.5 and the confidence `best_conf`
    "tp": lambda metric: _over_images(metric, "tp", np.sum),
    "fp": lambda metric: _over_images(metric, "fp", np.sum),
    "fn": lambda metric: _over_images(metric, "fn", np.sum),
    # means over images of what each image has by itself, there
    "image_precision": lambda metric: _over_images(metric, "precision", np.mean),
    "image_recall": lambda metric: _over_images(metric, "recall", np.mean),
    "image_f1": lambda metric: _over_images(metric, "f1", np.mean),
}
# (C,) one number for each class with labelled objects.
BY_CLASS: dict[str, Callable[[Metric], np.ndarray]] = {
    "precision": lambda metric: metric.p,
    "recall": lambda metric: metric.r,
    "f1": lambda metric: metric.f1,
    "AP50": lambda metric: metric.ap50,
    "AP75": lambda metric: metric.ap75,
    "AP": lambda metric: metric.ap,
}
_FULL_NAME = re.compile(r"metrics/([^(]+)\((\w)\)(?:/(.*))?", re.DOTALL)  # what, letter, class


def loggable_keys(names: Mapping[int, str], letters: Sequence[str] = ("B",)) -> list[str]:
    """The full name of every number: `metrics/f1(B)` and so on, then `metrics/f1(B)/RBC` for each class.

    Args:
        names: class index → name, of the data set.
        letters: what is measured, of `MEASURED`.
    """
    by_class = [
        f"metrics/{what}({letter})/{name}" for letter in letters for what in BY_CLASS for name in names.values()
    ]
    return [*(f"metrics/{what}({letter})" for letter in letters for what in OVERALL), *by_class]


def chosen_keys(
    wanted: Iterable[str], names: Mapping[int, str], letters: Sequence[str] = ("B",), *, setting: str = "log_metrics"
) -> list[str]:
    """Full names of what was asked for, each once.

    Args:
        wanted: `f1` (or in full, `metrics/f1(B)`), `f1/RBC` for one class, `f1/*` for every class; without a letter
            boxes are meant, `f1(P)` and `f1(P)/*` are of keypoints.
        names: class index → name, of the data set.
        letters: what is measured, of `MEASURED`.

    Raises:
        SettingValueError: there is no such number, or no such class.
    """
    known = names_of(loggable_keys(names, letters))
    families = {
        f"{what}{letter}/*": f"metrics/{what}{letter or '(B)'}" for what in BY_CLASS for letter in _marks(letters)
    }
    keys: dict[str, None] = {}
    for name in wanted:
        of_classes = families.get(name.removeprefix("metrics/"))
        if name in known:
            keys.update(dict.fromkeys(known[name]))
        elif of_classes is not None:
            keys.update(dict.fromkeys(f"{of_classes}/{class_}" for class_ in names.values()))
        else:
            possible = [*OVERALL, *families, *known]
            question = nearest(name, possible)
            raise SettingValueError(
                f"{setting}: '{name}' is not among the numbers of a validation. {f'{question} ' if question else ''}"
                f"For all classes there are {', '.join(OVERALL)}; for one class or each "
                f"({_example(names)}, 'f1/*') {', '.join(BY_CLASS)}. {_of_what(letters)}"
            )
    return list(keys)


def logged_values(metrics: DetMetrics, keys: Iterable[str]) -> dict[str, float]:
    """The numbers with these full names, after `compute`. A class without labelled objects has NaN."""
    places = {metrics.names[int(number)]: place for place, number in enumerate(metrics.ap_class_index)}
    measured = {kind[0]: metric for kind, metric in metrics.kinds.items()}
    values = {}
    for key in keys:
        parts = _FULL_NAME.fullmatch(key)
        assert parts is not None, key
        what, letter, class_ = parts.groups()
        if class_ is None:
            values[key] = float(OVERALL[what](measured[letter]))
        else:
            place = places.get(class_)
            values[key] = math.nan if place is None else float(BY_CLASS[what](measured[letter])[place])
    return values


def _marks(letters: Sequence[str]) -> list[str]:
    """What may stand behind the name of a number; nothing, which means boxes, first."""
    return ["", *(f"({letter})" for letter in letters)]


def _of_what(letters: Sequence[str]) -> str:
    """Whether boxes alone are measured."""
    first, *others = letters
    if not others:
        return f"All are of {MEASURED.get(first, first)}: nothing else is measured here."
    more = " and ".join(f"those of {MEASURED.get(each, each)} are 'f1({each})', 'f1({each})/*'" for each in others)
    return f"These are of {MEASURED.get(first, first)}; {more}, and so on."


def _over_images(metric: Metric, what: str, reduce: Callable[[list[float]], float]) -> float:
    found = [image[what] for image in metric.image_metrics_best.values()]
    return float(reduce(found)) if found else 0.0


def _example(names: Mapping[int, str]) -> str:
    return f"'f1/{next(iter(names.values()), 'name')}'"
