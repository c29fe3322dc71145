"""Short runs for the tests of trackers."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sightline.train.detect import DetectionTrainer
from sightline.validate.detect import DetectionValidator


def make(data: Path, model: str, folder: Path, callbacks: Any = None, **settings: Any) -> DetectionTrainer:
    """A trainer whose run takes a second."""
    overrides = {
        "model": model, "data": str(data), "project": str(folder), "name": "run", "imgsz": 64, "batch": 4, "epochs": 3,
        "workers": 0, "plots": False, "device": "cpu", "amp": False, "loggers": [],
    }  # fmt: skip
    return DetectionTrainer(overrides={**overrides, **settings}, _callbacks=callbacks)


def rows(run: Path) -> dict[str, dict[int, float]]:
    """results.csv: column → epoch → value, without empty ones."""
    table: dict[str, dict[int, float]] = {}
    with (run / "results.csv").open() as file:
        for row in csv.DictReader(file):
            for name, text in row.items():
                if name not in ("epoch", "time") and text.strip() not in ("", "nan"):
                    table.setdefault(name, {})[int(row["epoch"])] = float(text)
    return table


class Crash:
    """Ends a run of 4 epochs in its last one, and leaves the last.pt of epoch 2, as a machine that went off would."""

    def on_train_epoch_start(self, trainer: Any) -> None:
        if trainer.epoch == 2:
            trainer.saver.wait(trainer)
            shutil.copy(trainer.last, trainer.save_dir / "of_epoch_2.pt")
        if trainer.epoch == 3:
            raise RuntimeError("the power is gone")


def crashed(data: Path, model: str, folder: Path, **settings: Any) -> Path:
    """A last.pt that knows two epochs of a run whose trackers have been told of three."""
    crash = [("on_train_epoch_start", Crash().on_train_epoch_start)]
    trainer = make(data, model, folder, crash, epochs=4, **settings)
    try:
        trainer.train()
    except RuntimeError:
        shutil.move(trainer.save_dir / "of_epoch_2.pt", trainer.last)
        return trainer.last
    raise AssertionError("it should have crashed")


def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those that OpenCV draws; figures take seconds each."""
    monkeypatch.setattr(DetectionValidator, "plot_metrics", lambda self: None)
    monkeypatch.setattr(DetectionTrainer, "plot_metrics", lambda self: None)
    monkeypatch.setattr(DetectionTrainer, "plot_training_labels", lambda self: _small(self.save_dir / "labels.jpg"))


def _small(file: Path) -> None:
    file.write_bytes(cv2.imencode(".jpg", np.full((30, 40, 3), 90, dtype=np.uint8))[1].tobytes())
