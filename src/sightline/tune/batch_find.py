"""`sightline batch-find` and `YOLO.batch_find`: the batch test of a training's settings, its picture and numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sightline.artifacts.plots import plot_batch_find
from sightline.files import atomic_write
from sightline.log import LOGGER
from sightline.train.batch_test import BatchTest, batch_test
from sightline.tune.folder import folder_for

NAME = "batch-find"
PICTURE, NUMBERS = "batch_find.png", "batch_find.json"


@dataclass(frozen=True)
class BatchFinding:
    """What `batch_find` returns.

    Attributes:
        test: times and memory by batch, the noise scale, and what follows from them.
        save_dir: holds batch_find.png and batch_find.json.
    """

    test: BatchTest
    save_dir: Path

    @property
    def settings(self) -> dict[str, Any]:
        """What is recommended, for `train(**settings)`; empty where nothing fits."""
        return self.test.settings()

    def lines(self) -> Iterator[str]:
        yield from self.test.lines()
        yield f"picture and numbers: {self.save_dir}"


def find(trainer: Any) -> BatchFinding:
    """Test a trainer that has not been started, write what was seen, and say it.

    Raises:
        UsageError: the settings are those of something else than a run that begins.
        SettingsError, DataError, MissingFileError: as from the training itself.
        OutputError: the folder cannot be written to.
    """
    with folder_for(trainer, NAME) as folder:
        test = batch_test(trainer)
        write(test, folder)
    finding = BatchFinding(test, folder)
    for line in finding.lines():
        LOGGER.info(line)
    return finding


def write(test: BatchTest, folder: Path) -> None:
    """Both files, in a folder that is there.

    Raises:
        OutputError: one of them cannot be written.
    """
    choice = test.choice
    plot_batch_find(
        [size.batch for size in test.sizes],
        [size.images_per_second for size in test.sizes],
        [size.memory for size in test.sizes],
        budget=test.budget,
        free=test.free,
        noise=(test.noise.images, test.noise.low, test.noise.high),
        now=(test.batch, test.batch * test.accumulate),
        recommended=None if choice is None else (choice.batch, choice.images),
        title=f"Batch test · {test.device}, {test.optimizer}",
        file=folder / PICTURE,
    )
    content = {
        "recommended": test.settings(),
        "why": None if test.choice is None else test.choice.why,
        "now": {"batch": test.batch, "accumulate": test.accumulate, "lr": test.lr, "optimizer": test.optimizer},
        "noise_scale": {name: _number(value) for name, value in asdict(test.noise).items()},
        "device": test.device,
        "free_bytes": test.free,
        "budget_bytes": test.budget,
        "sizes": [{name: _number(value) for name, value in asdict(size).items()} for size in test.sizes],
    }
    with atomic_write(folder / NUMBERS, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
