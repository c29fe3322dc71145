"""`sightline lr-find` and `YOLO.lr_find`: the range test of a training's settings, its picture, numbers and verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.config.kinds import FIND
from sightline.log import LOGGER
from sightline.train.range_test import RangeTest, range_test
from sightline.train.range_test_files import write
from sightline.tune.folder import folder_for

NAME = "lr-find"


@dataclass(frozen=True)
class LrFinding:
    """What `lr_find` returns.

    Attributes:
        test: rates, losses and what was read off them.
        lr0: the suggestion; None where the loss never fell by more than its noise.
        save_dir: holds lr_find.png and lr_find.json.
    """

    test: RangeTest
    save_dir: Path

    @property
    def lr0(self) -> float | None:
        return self.test.reading.suggestion

    def lines(self) -> Iterator[str]:
        yield from self.test.lines()
        yield f"picture and numbers: {self.save_dir}"


def find(trainer: Any) -> LrFinding:
    """Test a trainer that has not been started, write what was seen, and say it.

    Raises:
        UsageError: the settings are those of something else than a run that begins.
        SettingsError, DataError, MissingFileError: as from the training itself.
        OutputError: the folder cannot be written to.
    """
    settings = trainer.args
    if settings.is_user_set("lr0") and settings.lr0 != FIND:
        LOGGER.warning(f"lr0={settings.lr0} has no effect: it is what {NAME} looks for.")
    with folder_for(trainer, NAME) as folder:
        test = range_test(trainer)
        write(test, folder)
    finding = LrFinding(test, folder)
    for line in finding.lines():
        LOGGER.info(line)
    return finding
