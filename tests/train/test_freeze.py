"""Frozen names are whole names, never pieces of others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sightline.config.settings import Settings
from sightline.errors import SettingTypeError, SettingValueError, TrainingError
from sightline.train import freeze


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(12)]
        layers[5] = nn.Upsample(scale_factor=2)
        self.model = nn.ModuleList(layers)


def frozen(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def test_a_number_means_the_first_layers():
    model = Net()
    assert freeze.apply(model, 2) == ["model.0", "model.1"]
    assert {name.split(".")[1] for name in frozen(model)} == {"0", "1"}  # not 10 and 11


def test_a_list_means_those_layers_and_parts_of_them():
    model = Net()
    freeze.apply(model, [1, "10.0"])
    assert frozen(model) == {"model.1.0.weight", "model.1.0.bias", "model.1.1.weight", "model.1.1.bias"} | {
        "model.10.0.weight",
        "model.10.0.bias",
    }


def test_a_layer_without_weights_may_be_named_and_one_that_is_not_there_may_not():
    freeze.apply(Net(), [5])
    with pytest.raises(SettingValueError, match="Layers are 0–11"):
        freeze.apply(Net(), [12])


def test_what_the_user_froze_stays_frozen():
    model = Net()
    model.model[7][0].weight.requires_grad = False
    freeze.apply(model, None)
    assert frozen(model) == {"model.7.0.weight"}


def test_freezing_everything_is_an_error():
    with pytest.raises(TrainingError, match="nothing to train"):
        freeze.apply(Net(), 12)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (None, []),
        (0, []),
        (2, ["model.0", "model.1"]),
        ("model.3", ["model.3"]),
        ("model.3.", ["model.3"]),  # as scripts end names
        ([3, "3", "4.1"], ["model.3", "model.4.1"]),
        ("backbone", ["model.0", "model.1", "model.2"]),
        (r"regex:\.1\.0\.", ["model.1.0.weight", "model.1.0.bias"]),
        (
            ["backbone", r"regex:^model\.11.*bias"],
            ["model.0", "model.1", "model.2", "model.11.0.bias", "model.11.1.bias"],
        ),
        ("model.3.0.weight", ["model.3.0.weight"]),
    ],
)
def test_what_a_setting_means(wanted: Any, names: list[str]):
    model = Net()
    model.yaml = {"backbone": [1, 2, 3], "head": list(range(9))}
    assert freeze.resolve(model, wanted) == names


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("model.3.0.wieght", r"Near names: .*model\.3\.0\.weight"),
        ("neck", "backbone and regex:… are understood"),
        ("regex:conv9", "'conv9' is found in no parameter name"),
        ("regex:(", "not a regular expression"),
        ("backbone", "Net has no description"),
    ],
)
def test_what_means_nothing_says_so(wanted: str, message: str):
    with pytest.raises(SettingValueError, match=message):
        freeze.resolve(Net(), wanted)


def test_a_digit_as_text_is_ambiguous():
    with pytest.raises(SettingTypeError, match=r"write 3 for the first 3 layers, \[3\] for layer 3"):
        Settings(freeze="3")


def test_frozen_batch_norm_keeps_its_statistics():
    model = Net().train()
    freeze.hold_batch_norm(model, ["model.1"])
    for layer in (0, 1, 10):
        model.model[layer](torch.randn(4, 3, 2, 2))
    moved = [bool(model.model[layer][1].running_mean.any()) for layer in (0, 1, 10)]
    assert moved == [True, False, True]
