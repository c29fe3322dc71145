"""Settings: how the learning rate moves over a run, how that begins, and how many batches make a step."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator

from sightline.config.groups.field import setting
from sightline.config.kinds import Number, Switch, Whole, choice
from sightline.config.moments import Moments

SCHEDULERS = ("linear", "cosine", "onecycle", "constant", "step", "warm_restarts")
LR_SCALES = ("none", "linear", "sqrt")

Scheduler = Annotated[
    Literal["linear", "cosine", "onecycle", "constant", "step", "warm_restarts"],
    BeforeValidator(choice(*SCHEDULERS, fold=True)),
]
LrScale = Annotated[Literal["none", "linear", "sqrt"], BeforeValidator(choice(*LR_SCALES, fold=True))]
MOMENTS = "a whole number of epochs from 1, a share of the run between 0 and 1, or a list of those"


class ScheduleSettings(BaseModel):
    """How the learning rate moves over a run, and how many batches make a step."""

    scheduler: Scheduler | None = setting(
        None, "How the learning rate goes from lr0 to lr0·lrf; None is linear, with cos_lr cosine.", "train", new=True
    )
    scheduler_step: Annotated[Literal["epoch", "iteration"], BeforeValidator(choice("epoch", "iteration"))] = setting(
        "epoch", "Whether the learning rate moves once an epoch or with every batch.", "train", new=True
    )
    lrf: Number = setting(0.01, "Final learning rate as a factor of lr0.", "train", ge=0, le=1)
    cos_lr: Switch = setting(False, "The older way to say scheduler=cosine.", "train")
    lr_min: Number = setting(
        0.0, "No learning rate falls below this after the warm-up (times its factor of lr_groups).", "train", new=True,
        ge=0, le=1,
    )  # fmt: skip
    step_epochs: Moments | None = setting(
        None,
        "Where scheduler=step drops, by lrf^(1/drops) each time; None is after 2/3 and 8/9 of the run.",
        "train",
        allowed=MOMENTS,
        new=True,
    )
    restart_epoch: Moments | None = setting(
        None,
        "The learning rate starts again after that many epochs; warm_restarts: every that many.",
        "train",
        allowed=MOMENTS,
        new=True,
    )
    restart_factor: Number = setting(
        0.5, "Where a restart begins, as a factor of where the one before began.", "train", new=True, gt=0, le=1
    )
    restart_decay: Number | None = setting(
        None,
        "Factor on the learning rate each epoch after a restart; None: the scheduler's shape once more.",
        "train",
        new=True,
        gt=0,
        le=1,
    )
    lr_scale: LrScale = setting(
        "none",
        "lr0 in proportion to batch / lr_base_batch, or to its square root.",
        "train",
        new=True,
    )
    lr_base_batch: Whole = setting(64, "The batch at which lr_scale leaves lr0 as it is.", "train", new=True, ge=1)
    lr_scale_damping: Number = setting(
        1.0,
        "Further factor on lr0 where lr_scale raises it: 0.85 to 0.9 for big batches.",
        "train",
        new=True,
        gt=0,
        le=1,
    )
    accumulate: Whole | None = setting(
        None, "Batches whose gradients make one step, from the first on; None: as nbs asks.", "train", new=True, ge=1
    )
    nbs: Whole = setting(64, "Nominal batch: gradients are gathered up to it.", "train", ge=1)


class WarmupSettings(BaseModel):
    """How the learning rate comes up at the start of a run."""

    warmup_epochs: Number = setting(3.0, "Length in epochs; part of an epoch is allowed, 0 is off.", "train", ge=0)
    warmup_steps: Whole | None = setting(
        None, "Length in steps of the optimizer, in the place of warmup_epochs.", "train", new=True, ge=0
    )
    warmup_start_factor: Number = setting(
        0.0, "Where learning rates other than those of biases start, as a factor.", "train", new=True, ge=0, le=1
    )
    warmup_momentum: Number = setting(0.8, "Momentum at the start.", "train", ge=0, le=1)
    warmup_bias_lr: Number = setting(0.1, "Learning rate of biases at the start.", "train", ge=0, le=1)
