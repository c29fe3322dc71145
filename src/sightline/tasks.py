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
    "rtdetr": Task(
        model="sightline.models.rtdetr:RTDETRDetectionModel",
        loss="sightline.losses.rtdetr:RTDETRDetectionLoss",
        trainer="sightline.train.rtdetr:RTDETRTrainer",
        validator="sightline.validate.rtdetr:RTDETRValidator",
        predictor="sightline.predict.rtdetr:RTDETRPredictor",
    ),
}

# Where people call a task by the name of another: an RT-DETR is a detector, and its scripts say so.
ALSO_CALLED = {"rtdetr": "detect"}


def get_task(name: str) -> Task:
    """The row of a task.

    Raises:
        SettingValueError: there is no such task yet.
    """
    if name not in TASKS:
        raise SettingValueError(f"task={name} is not in sightline yet. There is: {', '.join(TASKS)}.")
    return TASKS[name]


def is_called(task: str, name: str | None) -> bool:
    """Whether what somebody wrote as `task` means the task of a network; nothing written means any."""
    return name in (None, task, ALSO_CALLED.get(task))
