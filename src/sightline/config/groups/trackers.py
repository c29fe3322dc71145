"""Settings: which programs draw the curves of a run."""

from __future__ import annotations

from pydantic import BaseModel

from sightline.config.groups.field import setting
from sightline.config.kinds import Loggers


class TrackerSettings(BaseModel):
    """Programs that follow a run. Tables (results.csv) and events (events.jsonl) are written without any."""

    loggers: Loggers | None = setting(
        None,
        "Trackers of the run (docs/trackers.md); None is TensorBoard where it is installed, [] none.",
        "train",
        allowed="a list of tensorboard, mlflow, wandb",
        new=True,
    )
