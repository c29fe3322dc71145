"""Settings: how a network is judged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator

from sightline.config.groups.field import setting
from sightline.config.kinds import Fitness, Names, Switch, Whole, choice


class ValidationSettings(BaseModel):
    """How a network is judged."""

    val: Switch = setting(True, "Validate during training.", "train")
    val_interval: Whole = setting(1, "Epochs from one validation to the next.", "train", new=True, ge=1)
    fitness: Fitness | None = setting(
        None,
        "What decides which epoch is best, the first of several; None is mAP50-95.",
        "train",
        allowed="an expression over metrics such as 0.9*mAP50-95+0.1*recall, a function of the metrics (from Python), "
        "or a list or dict of those",
        new=True,
    )
    log_metrics: Names | None = setting(
        None,
        "Further columns of results.csv: f1, mAP75, f1/* (each class) and others of docs/metrics.md.",
        "train",
        "val",
        allowed="a name, or a list of names",
        new=True,
    )
    split: Annotated[Literal["train", "val", "test"], BeforeValidator(choice("train", "val", "test"))] = setting(
        "val", "Which part of the data set to validate on.", "val"
    )
    save_json: Switch = setting(False, "Write predictions.json in COCO form.", "train", "val")
    coco_eval: Switch = setting(False, "Also compute the exact COCO numbers.", "train", "val", new=True)
