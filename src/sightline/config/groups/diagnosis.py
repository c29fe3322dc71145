"""Settings: what a run says about itself, and whether it acts on it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator

from sightline.config.groups.field import setting
from sightline.config.kinds import DiagnosisLimits, Switch, choice


class DiagnosisSettings(BaseModel):
    """What is watched, and what follows from it."""

    diagnosis: Switch = setting(
        True, "Watch the run and say what is wrong, with evidence and remedy (docs/diagnosis.md).", "train", new=True
    )
    diagnosis_limits: DiagnosisLimits | None = setting(
        None,
        "Other thresholds of the diagnosis by name, such as {grad_norm: 5000}; docs/diagnosis.md lists them.",
        "train",
        allowed="{name of a limit: number}",
        new=True,
    )
    on_plateau: Annotated[str, BeforeValidator(choice("warn", "stop", "restart"))] = setting(
        "warn",
        "When a run has stopped getting better: say so, end it, or lift the learning rate again.",
        "train",
        allowed="warn, stop, restart",
        new=True,
    )
