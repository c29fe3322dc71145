"""Settings: when the state of a run is written."""

from __future__ import annotations

from pydantic import BaseModel

from sightline.config.groups.field import setting
from sightline.config.kinds import Number, Whole


class SavingSettings(BaseModel):
    """When the state of a run is written. After every epoch it always is, unless `save` is off."""

    save_period: Whole = setting(-1, "Also keep a checkpoint every n epochs; off below 1.", "train", ge=-1)
    save_every_steps: Whole = setting(
        0, "Also write last.pt in the middle of an epoch, every n batches; 0 is off.", "train", new=True, ge=0
    )
    save_minutes: Number = setting(
        15.0,
        "Also write last.pt in the middle of an epoch when the last one is this many minutes old; 0 is off.",
        "train",
        new=True,
        ge=0,
    )
