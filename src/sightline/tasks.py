"""The table that names the parts of every task. A new task is one row here plus its files."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from sightline.errors import SettingValueError


@dataclass(frozen=True, slots=True)
class Task:
    """Dotted names `module:attribute`; loaded when asked for, so that predicting does not import training."""

    model: str
    loss: str
    trainer: str
    validator: str
    predictor: str

    def load(self, part: str) -> Any:
        """The object behind one column, for example `load("trainer")`."""
        module, attribute = getattr(self, part).split(":")
        return getattr(import_module(module), attribute)


TASKS: dict[str, Task] = {
    "detect": Task(
        model="sightline.models.network:DetectionModel",
        loss="sightline.losses.detect:v8DetectionLoss",
        trainer="sightline.train.detect:DetectionTrainer",
        validator="sightline.validate.detect:DetectionValidator",
        predictor="sightline.predict.detect:DetectionPredictor",
    ),
    "pose": Task(
        model="sightline.models.network:PoseModel",
        loss="sightline.losses.pose:v8PoseLoss",
        trainer="sightline.train.pose:PoseTrainer",
        validator="sightline.validate.pose:PoseValidator",
        predictor="sightline.predict.pose:PosePredictor",
    ),
}

# Tasks whose networks can be built, loaded, run and saved, but that have no trainer, validator and predictor yet.
NETWORK_ONLY = ("rtdetr",)


def check_known(name: str) -> None:
    """
    Raises:
        SettingValueError: there are not even networks for this task.
    """
    if name not in TASKS and name not in NETWORK_ONLY:
        raise SettingValueError(f"task={name} is not in sightline yet. There is: {', '.join(TASKS)}.")


def get_task(name: str) -> Task:
    """The row of a task.

    Raises:
        SettingValueError: there is no such task yet, or no more of it than its networks.
    """
    check_known(name)
    if name in NETWORK_ONLY:
        raise SettingValueError(
            f"task={name}: its networks can be built, loaded and called, but training, validation and prediction are "
            f"not in sightline yet. There is: {', '.join(TASKS)}."
        )
    return TASKS[name]
