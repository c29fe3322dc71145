"""Settings: the images of a run."""

from __future__ import annotations

from pydantic import BaseModel

from sightline.config.groups.field import setting
from sightline.config.kinds import Batch, Cache, Classes, Data, Fraction, ImageSize, Number, Switch


class DataSettings(BaseModel):
    """The images: which, how large, how they are read."""

    data: Data | None = setting(
        None,
        "Data set: a YAML file, or the name of a built-in one.",
        "train",
        "val",
        allowed="a file, a name or a dict",
    )
    imgsz: ImageSize = setting(
        640,
        "Input size in pixels, rounded up to the stride; predict also takes height,width.",
        allowed="1 to 32768, or two of them",
    )
    batch: Batch = setting(
        16,
        "Images per step, all devices together; -1 takes 60% of the free memory, 0.8 takes 80%.",
        allowed="a whole number from 1; to train also -1, or a part of the free memory between 0 and 1",
    )
    fraction: Fraction = setting(
        1.0,
        "Part of the images to use: a share, or a count above 1; a list gives train, val (and test).",
        "train",
        "val",
        allowed="above 0 to 1, or a whole number above 1, or a list of two or three of those",
    )
    cache: Cache = setting(
        False, "Keep decoded images in memory or on disk.", "train", "val", allowed="True, False, ram, disk"
    )
    cache_budget_gb: Number | None = setting(
        None, "Memory or disk the cache may take, in GB; None is automatic.", "train", "val", new=True, gt=0
    )
    single_cls: Switch = setting(False, "Treat all classes as one.", "train", "val")
    classes: Classes | None = setting(
        None, "Use only these classes.", allowed="a class number from 0, or a list of them"
    )
    repeat_factor: Number = setting(
        0.0,
        "Repeat images with classes that are in fewer images than this share; 0 is off.",
        "train",
        new=True,
        ge=0,
        le=1,
    )
    rect: Switch = setting(False, "Batches of like shape with little padding; val and predict switch it on.")
