"""Settings: the learning-rate range test of `sightline lr-find` and `lr0=find`."""

from __future__ import annotations

from pydantic import BaseModel

from sightline.config.groups.field import setting
from sightline.config.kinds import Number, Whole


class LrFindSettings(BaseModel):
    """How learning rates are tried by `sightline lr-find` and `lr0=find`."""

    lr_find_steps: Whole = setting(100, "Steps of the optimizer in the test.", "train", new=True, ge=20)
    lr_find_min: Number = setting(1e-6, "The learning rate of the first of them.", "train", new=True, gt=0, le=1)
    lr_find_max: Number = setting(
        1.0, "That of the last, unless the loss has run away before.", "train", new=True, gt=0, le=1
    )
