"""Settings: random changes of the training images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator

from sightline.config.groups.field import setting
from sightline.config.kinds import Number, Scale, Transforms, Whole, choice, whole_choice


class AugmentationSettings(BaseModel):
    """Random changes of the training images."""

    hsv_h: Number = setting(0.015, "Hue jitter, ± as a share of the colour circle.", "train", ge=0, le=1)
    hsv_s: Number = setting(0.7, "Saturation jitter, ± as a share.", "train", ge=0, le=1)
    hsv_v: Number = setting(0.4, "Brightness jitter, ± as a share.", "train", ge=0, le=1)
    degrees: Number = setting(0.0, "Rotation, ± degrees.", "train", ge=0, le=360)
    translate: Number = setting(0.1, "Shift, ± as a share of the image.", "train", ge=0, le=1)
    scale: Scale = setting(
        0.5,
        "Zoom by 1 ± this, or between two factors.",
        "train",
        allowed="0 to 1, or a pair lowest,highest above 0",
    )
    shear: Number = setting(0.0, "Shear, ± degrees.", "train", ge=0, lt=90)
    perspective: Number = setting(0.0, "Perspective, ±; useful up to 0.001.", "train", ge=0, le=1)
    flipud: Number = setting(0.0, "Probability of an upside-down flip.", "train", ge=0, le=1)
    fliplr: Number = setting(0.5, "Probability of a left-right flip.", "train", ge=0, le=1)
    bgr: Number = setting(0.0, "Probability of keeping the blue-green-red order.", "train", ge=0, le=1)
    mosaic: Number = setting(1.0, "Probability of a mosaic of several images.", "train", ge=0, le=1)
    mosaic_prob: Number = setting(1.0, "Second factor of that probability.", "train", new=True, ge=0, le=1)
    mosaic_tiles: Annotated[int, BeforeValidator(whole_choice(4, 9))] = setting(
        4, "Images in a mosaic.", "train", allowed="4 or 9", new=True
    )
    mixup: Number = setting(0.0, "Probability of blending in a second image.", "train", ge=0, le=1)
    cutmix: Number = setting(0.0, "Probability of pasting in a patch of a second image.", "train", ge=0, le=1)
    copy_paste: Number = setting(0.0, "Probability of pasting objects.", "train", ge=0, le=1)
    copy_paste_mode: Annotated[Literal["flip", "mixup"], BeforeValidator(choice("flip", "mixup"))] = setting(
        "flip", "Pasted objects come from the mirrored image or from a second one.", "train"
    )
    close_mosaic: Whole = setting(10, "Last epochs without mosaic, mixup, cutmix and copy_paste.", "train", ge=0)
    multi_scale: Number = setting(0.0, "Random change of the size of each batch, ± as a share.", "train", ge=0, le=1)
    augmentations: Transforms | None = setting(
        None, "Your own transforms, from Python only.", "train", allowed="a list of transforms", new=True
    )
