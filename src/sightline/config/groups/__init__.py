"""Every setting: its type, default, range, meaning, and the modes that read it.

One file and class per concern; `Settings` (settings.py) inherits them all, so the public names are flat. Ranges live
in the field, meanings in the description; error messages, `sightline settings` and docs/settings.md are generated from
both (table.py). Names and defaults are those of Ultralytics, so that scripts and habits carry over; rows marked `new`
are ours. To add a setting, add its field to the file of its concern, read it where it is needed, and run
`sightline settings --markdown`.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from sightline.config.groups.augmentation import AugmentationSettings
from sightline.config.groups.batch_find import BatchFindSettings
from sightline.config.groups.data import DataSettings
from sightline.config.groups.diagnosis import DiagnosisSettings
from sightline.config.groups.guards import GuardSettings
from sightline.config.groups.loss import LossSettings
from sightline.config.groups.lr_find import LrFindSettings
from sightline.config.groups.model import ModelSettings
from sightline.config.groups.optimisation import OptimisationSettings
from sightline.config.groups.output import OutputSettings
from sightline.config.groups.prediction import PredictionSettings
from sightline.config.groups.run import RunSettings
from sightline.config.groups.saving import SavingSettings
from sightline.config.groups.schedule import ScheduleSettings, WarmupSettings
from sightline.config.groups.stages import StageSettings
from sightline.config.groups.trackers import TrackerSettings
from sightline.config.groups.validation import ValidationSettings

GROUPS: tuple[type[BaseModel], ...] = (
    RunSettings,
    DataSettings,
    ModelSettings,
    OptimisationSettings,
    ScheduleSettings,
    WarmupSettings,
    LrFindSettings,
    BatchFindSettings,
    StageSettings,
    AugmentationSettings,
    LossSettings,
    GuardSettings,
    ValidationSettings,
    DiagnosisSettings,
    PredictionSettings,
    OutputSettings,
    SavingSettings,
    TrackerSettings,
)

# Where a mode is better served by another default than training is. They count as defaults: nobody asked for them.
MODE_DEFAULTS: dict[str, dict[str, Any]] = {
    "train": {},
    "val": {"rect": True},
    "predict": {"rect": True, "batch": 1, "save": False},
}
