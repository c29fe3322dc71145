"""Trackers: programs that draw the curves of runs and compare them, one a file. The setting `loggers` names them.

`build` is all that a trainer needs. Their packages are optional and are imported where a run writes to them.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from sightline.callbacks.loggers.base import Tracker
from sightline.callbacks.loggers.mlflow import MLflowTracker
from sightline.callbacks.loggers.tensorboard import EVENT_FILES, TensorBoardTracker
from sightline.callbacks.loggers.wandb import WandbTracker
from sightline.errors import MissingExtraError

if TYPE_CHECKING:
    from sightline.config.settings import Settings

__all__ = ["EVENT_FILES", "MLflowTracker", "TensorBoardTracker", "Tracker", "WandbTracker", "build", "is_installed"]

CLASSES: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MLflowTracker,
    "wandb": WandbTracker,
}


def build(settings: Settings) -> list[Tracker]:
    """The trackers of a run: those that `loggers` names, or TensorBoard by itself where that is installed.

    Raises:
        MissingExtraError: one that is named is not installed.
    """
    if settings.loggers is None:
        return [TensorBoardTracker()] if is_installed("tensorboard") else []
    missing = [name for name in settings.loggers if not is_installed(name)]
    if missing:
        extras = ",".join(missing)
        is_not = "is not" if len(missing) == 1 else "are not"
        raise MissingExtraError(
            f"loggers={settings.loggers}: {', '.join(missing)} {is_not} installed. Run "
            f"`pip install 'sightline[{extras}]'`, or leave {'it' if len(missing) == 1 else 'them'} out of the list: "
            "results.csv and events.jsonl are written anyway."
        )
    return [CLASSES[name]() for name in settings.loggers]


def is_installed(package: str) -> bool:
    """Whether there is such a package; it is not imported."""
    found = importlib.util.find_spec(package)
    # A folder of that name is not it, and both wandb and people leave such folders.
    return found is not None and found.origin is not None
