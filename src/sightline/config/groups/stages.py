"""Settings: what changes from one stage of a run to the next, and named recipes."""

from __future__ import annotations

from pydantic import BaseModel

from sightline.config.groups.field import setting
from sightline.config.kinds import File, Number
from sightline.config.stages import AugmentStages, LossStages


class StageSettings(BaseModel):
    """What changes from one stage of a run to the next, and named recipes."""

    preset: File | None = setting(
        None,
        "A recipe below all your own values: a name (see Presets), or a YAML file of yours.",
        "train",
        allowed="the name of a preset, or a YAML file of settings",
        new=True,
    )
    loss_schedule: LossStages | None = setting(
        None,
        "Factors on box, cls, dfl, pose, kobj and rle by stage; until is an epoch or a share of the run.",
        "train",
        allowed="a list such as [{until: 100, box: 1.5}, {until: 450}, {box: 0.7, transition: 10}]",
        new=True,
    )
    augment_schedule: AugmentStages | None = setting(
        None,
        "mosaic, mosaic_prob, mixup, copy_paste, degrees and translate by stage, in the place of theirs.",
        "train",
        allowed="a list such as [{until: 0.5, mosaic: 1.0}, {mosaic: 0.5, degrees: 5, transition: 10}]",
        new=True,
    )
    box_loss_weight: Number = setting(1.0, "Factor on the gain of the box loss.", "train", new=True, ge=0)
    cls_loss_weight: Number = setting(1.0, "Factor on the gain of the class loss.", "train", new=True, ge=0)
    dfl_loss_weight: Number = setting(1.0, "Factor on the gain of the distance loss.", "train", new=True, ge=0)
