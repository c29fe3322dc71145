"""Settings: how the weights are changed. How the learning rate moves stands in schedule.py."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator

from sightline.config.groups.field import setting
from sightline.config.kinds import Factors, LearningRate, Number, PrecisionChoice, Switch, Whole, choice

OPTIMIZERS = ("auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSProp")


class OptimisationSettings(BaseModel):
    """How the weights are changed."""

    epochs: Whole = setting(100, "Training epochs.", "train", ge=1)
    time: Number | None = setting(None, "Time budget in hours; replaces epochs.", "train", gt=0)
    patience: Whole = setting(
        100, "Epochs without a better fitness before training stops; 0 never stops.", "train", ge=0
    )
    optimizer: Annotated[str, BeforeValidator(choice(*OPTIMIZERS, fold=True))] = setting(
        "auto",
        "Optimizer; auto also fills lr0, momentum, warmup_bias_lr, nbs and ema_tau where you left them.",
        "train",
        allowed=", ".join(OPTIMIZERS),
    )
    lr0: LearningRate = setting(
        0.01,
        "Initial learning rate; find: what a range test before the run suggests.",
        "train",
        allowed="a number from 0 to 1, or find",
    )
    momentum: Number = setting(0.937, "Momentum, or beta1 of the Adam family.", "train", ge=0, le=1)
    weight_decay: Number = setting(0.0005, "Weight decay at the nominal batch.", "train", ge=0, le=1)
    ema: Switch = setting(
        True, "Validate and save an average of the weights; False: the weights themselves.", "train", new=True
    )
    ema_decay: Number = setting(
        0.9999,
        "Average of the weights: what stays of it in a step, at the end of a long run.",
        "train",
        new=True,
        ge=0,
        lt=1,
    )
    ema_tau: Number = setting(
        2000, "Average of the weights: steps over which ema_decay comes up from 0.", "train", new=True, gt=0
    )
    clip_grad: Number = setting(
        10.0, "Largest norm of the gradient; 0 is off. clip_grad_norm is another name of it.", "train", new=True, ge=0
    )
    clip_grad_value: Number | None = setting(
        None,
        "Largest size of each value of the gradient, cut before the norm; 0 and None are off.",
        "train",
        new=True,
        ge=0,
    )
    backbone_lr_ratio: Number | None = setting(
        None, "Learning rates of the backbone as a factor of all others.", "train", new=True, gt=0
    )
    layer_decay: Number | None = setting(
        None, "Factor on the learning rate of each layer for every layer after it.", "train", new=True, gt=0, le=1
    )
    lr_groups: Factors | None = setting(
        None,
        "Factors on the learning rate by regular expressions on parameter names.",
        "train",
        allowed="{regular expression: a factor above 0}",
        new=True,
    )
    amp: PrecisionChoice = setting(
        True,
        "Mixed precision: True and auto take the best the device supports, False is exact fp32.",
        "train",
        allowed="True, False, auto, fp16, bf16, fp32",
    )
