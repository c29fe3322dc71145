"""Settings: the network that a run starts from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator

from sightline.config.groups.field import setting
from sightline.config.kinds import Automatic, File, Freeze, Switch, SwitchOrFile, Unfreeze, choice


class ModelSettings(BaseModel):
    """What training starts from."""

    pretrained: SwitchOrFile = setting(
        True, "Start from the model's weights, or from this file.", "train", allowed="True, False or a file"
    )
    backbone_weights: File | None = setting(
        None,
        "Weights for the backbone: a state dict of torchvision or timm (ResNet, HGNetV2).",
        "train",
        allowed="a file",
        new=True,
    )
    cls_remap: Switch = setting(True, "Carry class outputs over by class name.", "train")
    freeze: Freeze | None = setting(
        None,
        "Layers that are not trained.",
        "train",
        allowed="how many from the front, backbone, a name, regex:…, or a list of layer numbers and those",
    )
    unfreeze_epoch: Unfreeze | None = setting(
        None,
        "Frozen layers train again after that many epochs; or {epoch: which of them}.",
        "train",
        allowed="a whole number from 1, or {epoch: names} with names as in freeze, or all",
        new=True,
    )
    freeze_bn: Switch | None = setting(
        None,
        "Hold BatchNorm statistics: None where it is frozen, False nowhere, True all if freeze is not set.",
        "train",
        new=True,
    )
    norm: Annotated[Literal["bn", "gn"], BeforeValidator(choice("bn", "gn", fold=True))] | None = setting(
        None,
        "Normalisation: bn (BatchNorm) or gn (GroupNorm in its place); None is what the network has.",
        "train",
        new=True,
    )
    sync_bn: Automatic = setting(
        "auto",
        "BatchNorm over the images of all processes; auto: with several, of 16 images each or fewer.",
        "train",
        allowed="auto, True, False",
        new=True,
    )
    resume: SwitchOrFile = setting(
        False, "Go on with an interrupted run: True, or its last.pt.", "train", allowed="True, False or a file"
    )
