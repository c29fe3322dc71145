"""lr_find.png and lr_find.json: what a range test leaves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sightline.artifacts.plots import plot_lr_find
from sightline.files import atomic_write
from sightline.train.lr_curve import FEWEST, calm, smooth
from sightline.train.range_test import RangeTest

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

PICTURE, NUMBERS = "lr_find.png", "lr_find.json"


def write_for(trainer: BaseTrainer) -> None:
    """Into the folder of a run whose learning rate was found."""
    if trainer.lr_test is not None:
        write(trainer.lr_test, trainer.save_dir)


def write(test: RangeTest, folder: Path) -> None:
    """Both files, in a folder that is there.

    Raises:
        OutputError: one of them cannot be written.
    """
    reading, level = test.reading, test.beginning
    x, change = calm(test.rates, test.probed, test.beginning)
    curve = smooth(x, change) if len(x) >= FEWEST else None
    marks = {
        "suggestion, the bottom begins": reading.bottom,
        "steepest descent": reading.steepest,
        "still low": reading.limit,
        "ran away": reading.diverged,
    }
    plot_lr_find(
        test.rates,
        test.losses,
        test.probed,
        x if curve is not None else np.array([]),
        curve.value + level if curve is not None else np.array([]),
        curve.noise if curve is not None else np.array([]),
        level=level,
        marks=marks,
        title=f"Learning-rate range test · {test.optimizer}, {test.images} images a step",
        file=folder / PICTURE,
    )
    content = {
        "suggestion": reading.suggestion,
        "steepest": reading.steepest,
        "bottom": reading.bottom,
        "limit": reading.limit,
        "diverged": reading.diverged,
        "fall": _number(reading.fall),
        "noise": _number(reading.noise),
        "optimizer": test.optimizer,
        "groups": test.groups,
        "images_per_step": test.images,
        "lr": test.rates.tolist(),
        "loss": [_number(loss) for loss in test.losses.tolist()],  # null where it was no number
        "probed": [_number(loss) for loss in test.probed.tolist()],
        "beginning": _number(test.beginning),
        "smoothed": None if curve is None else (curve.value + level).tolist(),  # of the rates before it ran away
    }
    with atomic_write(folder / NUMBERS, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
