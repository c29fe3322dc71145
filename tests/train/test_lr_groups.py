"""Learning rates by part of the network: factors by hand, groups that keep what they had, rates of a live run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sightline.errors import SettingValueError
from sightline.models.build import build_model
from sightline.train.detect import DetectionTrainer
from sightline.train.lr_groups import lr_factors, split_groups
from sightline.train.optim import NAMES, build_optimizer
from train.test_trainer import Interrupted, make, same, weights

YOLO26 = "yolo26n.yaml"


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return build_model(YOLO26, nc=2)


def rates(optimizer: torch.optim.Optimizer, model: nn.Module, key: str = "lr") -> dict[str, float]:
    of = {id(parameter): group[key] for group in optimizer.param_groups for parameter in group["params"]}
    return {name: of[id(parameter)] for name, parameter in model.named_parameters()}


def test_the_three_settings_multiply(model: nn.Module):
    factors = lr_factors(model, backbone_lr_ratio=0.1, layer_decay=0.9, lr_groups={r"\.bn\.": 2, r"model\.0\.": 0.5})
    assert factors["model.0.conv.weight"] == pytest.approx(0.1 * 0.9**23 * 0.5)
    assert factors["model.0.bn.bias"] == pytest.approx(0.1 * 0.9**23 * 0.5 * 2)
    assert factors["model.10.cv1.conv.weight"] == pytest.approx(0.1 * 0.9**13)  # the last of the backbone
    assert factors["model.13.cv1.conv.weight"] == pytest.approx(0.9**10)
    assert factors["model.23.cv2.0.2.weight"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_groups_are_split_and_keep_what_they_had(model: nn.Module, name: str):
    whole = build_optimizer(model, name, lr=0.01, momentum=0.9, decay=0.0005)
    split = build_optimizer(model, name, lr=0.01, momentum=0.9, decay=0.0005)
    split_groups(split, model, lr_factors(model, backbone_lr_ratio=0.1))
    before, after = rates(whole, model), rates(split, model)
    for parameter in before:
        backbone = int(parameter.split(".")[1]) <= 10
        assert after[parameter] == pytest.approx(before[parameter] * (0.1 if backbone else 1.0)), parameter
    for key in ("weight_decay", "param_group", *(["use_muon"] if name == "MuSGD" else [])):
        assert rates(whole, model, key) == rates(split, model, key)
    listed = [id(p) for group in split.param_groups for p in group["params"]]
    assert len(set(listed)) == len(listed)
    if name != "MuSGD":
        names = [group["name"] for group in split.param_groups]
        assert names == ["weight ×0.1", "weight ×1", "bn ×0.1", "bn ×1", "bias ×0.1", "bias ×1"]


def test_a_step_moves_each_part_at_its_rate():
    layers = nn.Module()
    layers.model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    optimizer = torch.optim.SGD(layers.parameters(), lr=1.0)
    split_groups(optimizer, layers, lr_factors(layers, layer_decay=0.5))
    before = [parameter.detach().clone() for parameter in layers.parameters()]
    for parameter in layers.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    moves = [float((a - b).detach().abs().mean()) for a, b in zip(before, layers.parameters(), strict=True)]
    assert moves == pytest.approx([0.5, 1.0])
    assert [group["name"] for group in optimizer.param_groups] == ["group 0 ×0.5", "group 0 ×1"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_groups": {"modle": 0.1}}, "'modle' is found in no parameter name"),
        ({"lr_groups": {"cv1.conv.wieght": 0.1}}, r"Near names: model\."),
        ({"lr_groups": {"(": 0.1}}, "is not a regular expression"),
    ],
)
def test_expressions_that_mean_nothing(model: nn.Module, settings: dict[str, Any], message: str):
    with pytest.raises(SettingValueError, match=message):
        lr_factors(model, **settings)


def test_networks_without_such_parts():
    with pytest.raises(SettingValueError, match="no description"):
        lr_factors(nn.Linear(1, 1), backbone_lr_ratio=0.1)
    with pytest.raises(SettingValueError, match="not a sequence of layers"):
        lr_factors(nn.Linear(1, 1), layer_decay=0.1)


def test_a_factor_of_zero_is_freezing():
    with pytest.raises(SettingValueError, match=r"freeze='regex:model\\.0'"):
        DetectionTrainer(overrides={"lr_groups": {r"model\.0": 0}})


def test_words_of_the_command_line():
    from sightline.config.settings import Settings

    for text in (r"{model\.0\.:0.1,cv3: 2}", r"{model\.0\.: 0.1, cv3: 2.0}", {r"model\.0\.": 0.1, "cv3": 2}):
        assert Settings(lr_groups=text).lr_groups == {r"model\.0\.": 0.1, "cv3": 2.0}


class OwnOptimizer(DetectionTrainer):
    """One group of all parameters, at a rate of its own."""

    def build_optimizer(self, model: nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.004)


@pytest.mark.parametrize(("trainer_class", "lr"), [(DetectionTrainer, 0.002), (OwnOptimizer, 0.004)])
def test_the_rates_hold_in_and_after_the_warm_up(tiny_data: Path, tmp_path: Path, trainer_class: type, lr: float):
    seen = []
    settings = {"optimizer": "AdamW", "lr0": 0.002, "lrf": 1.0, "nbs": 4, "warmup_epochs": 1, "warmup_bias_lr": 0.1}
    settings["backbone_lr_ratio"] = 0.1
    trainer = make(tiny_data, tmp_path, trainer_class, model=YOLO26, epochs=2, **settings)
    trainer.add_callback("optimizer_step", lambda t: seen.append(rates(t.optimizer, t.model)))
    trainer.train()
    assert seen[0]["model.0.conv.weight"] == 0  # the warm-up begins
    if trainer_class is DetectionTrainer:
        assert seen[0]["model.0.bn.bias"] == pytest.approx(0.01)
        assert seen[0]["model.23.cv2.0.2.bias"] == pytest.approx(0.1)
        assert len(trainer.optimizer.param_groups) == 6
        assert trainer.in_force["backbone_lr_ratio"] == "6 groups, learning rates ×0.1, ×1"
    for name, rate in seen[-1].items():
        assert rate == pytest.approx(lr * (0.1 if int(name.split(".")[1]) <= 10 else 1)), name
    assert len(trainer.lr) == len(trainer.optimizer.param_groups)


def test_musgd_has_the_rates_at_its_first_full_step(tiny_data: Path, tmp_path: Path):
    seen = []
    settings = {"model": YOLO26, "warmup_epochs": 0, "lr_groups": {r"model\.0\.": 0.5}, "layer_decay": 0.9}
    trainer = make(tiny_data, tmp_path, epochs=1, **settings)
    trainer.add_callback("optimizer_step", lambda t: seen.append(rates(t.optimizer, t.model)))
    trainer.train()
    assert trainer.args.optimizer == "MuSGD"
    assert seen[0]["model.0.conv.weight"] == pytest.approx(0.01 * 0.5 * 0.9**23)
    assert seen[0]["model.23.cv2.0.2.weight"] == pytest.approx(0.01)
    assert seen[0]["model.23.cv3.0.2.weight"] == pytest.approx(0.03)  # boosted


def test_a_run_that_goes_on_has_the_same_groups(tiny_data: Path, tmp_path: Path):
    settings = {"epochs": 3, "optimizer": "SGD", "warmup_epochs": 1, "backbone_lr_ratio": 0.1, "lr_groups": {"cv3": 2}}
    whole = make(tiny_data, tmp_path / "whole", **settings)
    whole.train()

    def stop(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise Interrupted

    cut = make(tiny_data, tmp_path / "cut", **settings)
    cut.add_callback("on_fit_epoch_end", stop)
    with pytest.raises(Interrupted):
        cut.train()
    with pytest.raises(SettingValueError, match=r"backbone_lr_ratio=0\.2 cannot change"):
        DetectionTrainer(overrides={"resume": str(cut.last), "backbone_lr_ratio": 0.2})
    resumed = DetectionTrainer(overrides={"resume": str(cut.last)})
    resumed.train()
    assert [group["name"] for group in resumed.optimizer.param_groups] == [
        group["name"] for group in whole.optimizer.param_groups
    ]
    assert same(weights(whole.last), weights(resumed.last))
