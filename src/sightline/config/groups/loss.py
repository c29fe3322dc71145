"""Settings: what the loss is made of."""

from __future__ import annotations

from pydantic import BaseModel

from sightline.config.groups.field import setting
from sightline.config.kinds import ClassWeights, FocalGamma, Loss, Number


class LossSettings(BaseModel):
    """How much the parts of the loss weigh."""

    box: Number = setting(7.5, "Gain of the box loss.", "train", ge=0)
    cls: Number = setting(0.5, "Gain of the class loss.", "train", ge=0)
    dfl: Number = setting(1.5, "Gain of the distance loss (DFL or L1).", "train", ge=0)
    pose: Number = setting(12.0, "Gain of the keypoint loss (task pose).", "train", ge=0)
    kobj: Number = setting(1.0, "Gain of the loss on whether a keypoint is labelled (task pose).", "train", ge=0)
    rle: Number = setting(1.0, "Gain of the likelihood of keypoint errors (YOLO26-pose).", "train", ge=0)
    cls_pw: Number = setting(
        0.0, "Exponent on inverse class frequency for class weights; 0 is off.", "train", ge=0, le=1
    )
    class_weights: ClassWeights | None = setting(
        None,
        "Factors on the class loss of objects, not of background; auto: largest count / own count.",
        "train",
        allowed="auto, a list of one number above 0 a class, or a dict from class names to such numbers",
        new=True,
    )
    focal_gamma: FocalGamma = setting(
        0.0,
        "Class loss times |target − score| to this power; 0 is off.",
        "train",
        allowed="0, or a number from 1 to 10",
        new=True,
    )
    label_smoothing: Number = setting(
        0.0, "Part of an object's class target that is spread over all classes.", "train", new=True, ge=0, lt=1
    )
    loss: Loss | None = setting(
        None,
        "Your own loss, from Python only (docs/losses.md).",
        "train",
        allowed="a class derived from v8DetectionLoss or E2ELoss, or a function of (preds, batch) or of the model",
        new=True,
    )
