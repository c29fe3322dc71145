"""What trains in which epoch, by settings, by callbacks, and in a run that was interrupted."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sightline.config.load import make_settings
from sightline.config.settings import Settings
from sightline.errors import SettingTypeError, SettingValueError
from sightline.facade import YOLO
from sightline.train.detect import DetectionTrainer
from sightline.train.freeze_plan import FreezePlan
from train.test_freeze import Net, frozen
from train.test_trainer import FAST, Interrupted, make, same, weights

make = functools.partial(make, model="yolo26n.yaml")  # whose layers are named below

FIRST = "model.0.conv.weight"
EIGHTH = "model.8.cv1.conv.weight"


def layers(model: nn.Module) -> set[int]:
    """The layers of which any parameter is frozen."""
    return {int(name.split(".")[1]) for name in frozen(model)}


def test_everything_thaws_after_as_many_epochs():
    model = Net()
    plan = FreezePlan(model, 3, 2, epochs=5)
    names = list(plan.names)
    seen = []
    for epoch in range(4):
        names = plan.enter(model, epoch, names)
        seen.append((layers(model), list(names)))
    held = ({0, 1, 2}, ["model.0", "model.1", "model.2"])
    assert seen == [held, held, (set(), []), (set(), [])]


def test_a_schedule_thaws_in_steps():
    model = Net()
    plan = FreezePlan(model, 3, {1: [2, "1.0"], 3: "all"}, epochs=5)
    names = list(plan.names)
    seen = []
    for epoch in range(4):
        names = plan.enter(model, epoch, names)
        seen.append((frozen(model), list(names)))
    assert {name.split(".")[1] for name in seen[0][0]} == {"0", "1", "2"}
    assert "model.1.1.weight" in seen[1][0]
    assert not any(name.startswith(("model.1.0.", "model.2.")) for name in seen[1][0])
    assert [names for _, names in seen] == [["model.0", "model.1", "model.2"], *[["model.0", "model.1"]] * 2, []]


def test_what_the_user_froze_never_thaws():
    model = Net()
    model.model[1][0].weight.requires_grad = False
    plan = FreezePlan(model, 3, 1, epochs=5)
    plan.enter(model, 1, plan.names)
    assert frozen(model) == {"model.1.0.weight"}


def test_what_a_callback_flipped_is_left_alone():
    model = Net()
    plan = FreezePlan(model, 3, 4, epochs=9)
    plan.enter(model, 0, plan.names)
    model.model[0][0].weight.requires_grad = True
    plan.enter(model, 1, plan.names)
    assert model.model[0][0].weight.requires_grad


@pytest.mark.parametrize(
    ("freeze", "unfreeze", "epochs", "message"),
    [
        (None, 2, 5, "freeze=None freezes nothing"),
        (0, 2, 5, "freezes nothing"),
        (3, 5, 5, "the run has 5 epochs, so nothing thaws after 5. Give 1 to 4"),
        (3, 1, 1, "a run of one epoch ends before"),
        (3, {1: "model.7"}, 5, "in epoch 1 'model.7' has nothing that freeze=3 still holds frozen"),
        (3, {1: "all", 2: [0]}, 5, r"in epoch 2 \[0\] has nothing"),
        (3, {1: "model.99"}, 5, "the model has no 'model.99'"),
    ],
)
def test_plans_that_cannot_be_meant(freeze: Any, unfreeze: Any, epochs: int, message: str):
    with pytest.raises(SettingValueError, match=message):
        FreezePlan(Net(), freeze, unfreeze, epochs=epochs)


def test_with_a_time_budget_any_epoch_may_come():
    FreezePlan(Net(), 3, 500)


def modes(model: nn.Module) -> list[bool]:
    return [layer[1].training for layer in model.model if isinstance(layer, nn.Sequential)]


def settled(model: nn.Module, plan: FreezePlan, names: list[str], freeze_bn: bool | None = None) -> set[int]:
    """The layers whose BatchNorm is held."""
    model.train()
    plan.settle(model, names, freeze_bn)
    return {i for i, layer in enumerate(model.model) if isinstance(layer, nn.Sequential) and not layer[1].training}


def test_whose_statistics_are_held():
    model = Net()
    plan = FreezePlan(model, 2)
    assert settled(model, plan, plan.names) == {0, 1}
    assert settled(model, plan, plan.names, True) == {0, 1}
    assert settled(model, plan, plan.names, False) == set()
    for parameter in model.model[1].parameters():  # as a callback thaws
        parameter.requires_grad = True
    assert settled(model, plan, plan.names) == {0}
    for parameter in model.model[7].parameters():  # as a callback freezes
        parameter.requires_grad = False
    assert settled(model, plan, plan.names) == {0, 7}
    assert settled(model, plan, ["model.0.", "model.1.", "model.9."]) == {0, 7, 9}  # a name was added
    assert settled(model, plan, []) == {7}  # and all were taken away, though layer 0 is frozen still
    assert settled(Net(), FreezePlan(Net()), [], True) == {0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11}


def test_a_gradient_that_waited_does_not_move_a_weight_that_was_frozen():
    model = Net()
    weight, other = model.model[0][0].weight, model.model[1][0].weight
    weight.grad, other.grad = torch.ones_like(weight), torch.ones_like(other)
    weight.requires_grad = False
    FreezePlan(model, 0).settle(model, [], None)
    assert weight.grad is None
    assert other.grad is not None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{5:model.8,10:all}", {5: "model.8", 10: "all"}),
        ("{5: model.8, 10: all}", {5: "model.8", 10: "all"}),
        ("{10: all, 5: [8, '9.cv1']}", {5: [8, "9.cv1"], 10: "all"}),
        ({"5": "model.8", 10: "all"}, {5: "model.8", 10: "all"}),
        (5.0, 5),
    ],
)
def test_schedules_as_people_write_them(text: Any, value: Any):
    assert Settings(freeze=10, unfreeze_epoch=text).unfreeze_epoch == value


@pytest.mark.parametrize(
    ("value", "error"),
    [(0, SettingValueError), ({0: "all"}, SettingValueError), ({5: 8}, SettingTypeError), ({}, SettingValueError),
     ("soon", SettingTypeError), ({"a": "all"}, SettingTypeError), ({5: "a", "5": "b"}, SettingValueError)],
)  # fmt: skip
def test_schedules_that_are_none(value: Any, error: type[Exception]):
    with pytest.raises(error, match="unfreeze_epoch="):
        Settings(freeze=10, unfreeze_epoch=value)


def test_a_schedule_from_a_file_and_back(tmp_path: Path):
    file = tmp_path / "settings.yaml"
    file.write_text("unfreeze_epoch:\n  5: model.8\n  10: all\nepochs: 20\n")
    settings = make_settings("train", {"freeze": 10}, cfg=str(file))  # the two may come from different places
    assert settings.unfreeze_epoch == {5: "model.8", 10: "all"}
    assert Settings.from_dict(settings.to_dict()).unfreeze_epoch == {5: "model.8", 10: "all"}


class Watched(DetectionTrainer):
    """Notes in every epoch what trains, what moved and whose statistics moved."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.trained: list[set[int]] = []
        self.moved: list[dict[str, bool]] = []
        self.add_callback("on_train_batch_start", lambda _: self.note())
        self.add_callback("on_train_epoch_end", lambda _: self.compare())

    def note(self) -> None:
        if self.batch_index == 0:
            self.trained.append({int(n.split(".")[1]) for n, p in self.model.named_parameters() if p.requires_grad})
            self.before = {name: value.clone() for name, value in self.model.state_dict().items()}

    def compare(self) -> None:
        after = self.model.state_dict()
        self.moved.append({name: not torch.equal(after[name], self.before[name]) for name in after})


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW", "MuSGD"])
def test_thawed_layers_move_and_frozen_ones_do_not(tiny_data: Path, tmp_path: Path, optimizer: str):
    trainer = make(
        tiny_data, tmp_path, Watched, epochs=4, freeze="backbone", unfreeze_epoch={1: "model.8", 2: "all"},
        optimizer=optimizer, nbs=4, warmup_epochs=0,
    )  # fmt: skip
    trainer.train()
    assert [8 in layers for layers in trainer.trained] == [False, True, True, True]
    assert [0 in layers for layers in trainer.trained] == [False, False, True, True]
    for name, expected in ((FIRST, 2), (EIGHTH, 1), ("model.0.bn.running_mean", 2), ("model.8.cv1.bn.running_var", 1)):
        assert [moved[name] for moved in trainer.moved] == [epoch >= expected for epoch in range(4)], name
    assert all(moved["model.23.cv2.0.2.weight"] for moved in trainer.moved)
    assert trainer.freeze_layer_names == []
    total = len(list(trainer.model.parameters()))
    assert trainer.in_force["freeze"].endswith(f"of {total} tensors do not train: model.0, model.1, … model.10")
    assert trainer.in_force["unfreeze_epoch"].startswith("train again: ")


def test_a_callback_that_flips_requires_grad(tiny_data: Path, tmp_path: Path):
    """The script that people write; statistics follow, and the list of names may be edited later."""

    def flip(trainer: Any) -> None:
        for name, parameter in trainer.model.named_parameters():
            if int(name.split(".")[1]) <= 10 and "dfl" not in name:
                parameter.requires_grad = trainer.epoch >= 2
        if trainer.epoch == 3:
            trainer.freeze_layer_names = ["model.0."]

    trainer = make(tiny_data, tmp_path, Watched, epochs=4, optimizer="SGD", nbs=4, warmup_epochs=0)
    trainer.add_callback("on_train_epoch_start", flip)
    trainer.train()
    assert [moved[FIRST] for moved in trainer.moved] == [False, False, True, True]
    assert [moved["model.0.bn.running_mean"] for moved in trainer.moved] == [False, False, True, False]
    assert [moved["model.8.cv1.bn.running_mean"] for moved in trainer.moved] == [False, False, True, True]


@pytest.mark.parametrize(
    ("settings", "frozen_moves", "head_moves"),
    [
        ({"freeze": 2}, False, True),
        ({"freeze": 2, "freeze_bn": False}, True, True),
        ({"freeze": 2, "freeze_bn": True}, False, True),
        ({"freeze_bn": True}, False, False),
    ],
)
def test_statistics_are_held_where_the_setting_says(
    tiny_data: Path, tmp_path: Path, settings: dict[str, Any], frozen_moves: bool, head_moves: bool
):
    trainer = make(tiny_data, tmp_path, Watched, epochs=1, **settings)
    trainer.train()
    assert trainer.moved[0]["model.0.bn.running_mean"] == frozen_moves
    assert trainer.moved[0]["model.23.cv3.0.0.0.bn.running_var"] == head_moves
    assert trainer.moved[0]["model.23.cv3.0.0.0.bn.weight"]  # that trains in any case
    assert ("freeze_bn" in trainer.in_force) == ("freeze_bn" in settings)


def test_what_the_user_froze_stays_through_thawing_and_a_rebuild(tiny_data: Path, tmp_path: Path):
    model = YOLO("yolo26n.yaml")  # of 80 classes; the trainer builds one for two
    model.model.model[0].conv.weight.requires_grad = False
    settings = {**FAST, "epochs": 3, "freeze": 2, "unfreeze_epoch": 1, "project": str(tmp_path), "name": "run"}

    def stop(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise Interrupted

    model.add_callback("on_fit_epoch_end", stop)
    with pytest.raises(Interrupted):
        model.train(data=str(tiny_data), **settings)
    assert frozen(model.trainer.model) == {FIRST}
    resumed = DetectionTrainer(overrides={"resume": str(model.trainer.last)})
    resumed.train()
    assert frozen(resumed.model) == {FIRST}


@pytest.mark.parametrize("epoch", [pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_goes_on_within_a_schedule_is_the_same_run(tiny_data: Path, tmp_path: Path, epoch: int):
    settings = {
        "epochs": 4, "freeze": ["backbone", "13.cv1"], "unfreeze_epoch": {1: "model.8", 3: "all"}, "optimizer": "SGD",
        "nbs": 12, "warmup_epochs": 1,
    }  # fmt: skip

    def flip(trainer: Any) -> None:
        if trainer.epoch == 1:
            trainer.model.model[5].conv.weight.requires_grad = True
            trainer.freeze_layer_names.append("model.22")

    def stop(trainer: Any) -> None:
        if trainer.epoch == epoch:
            raise Interrupted

    whole, cut = (make(tiny_data, tmp_path / name, Watched, **settings) for name in ("whole", "cut"))
    whole.add_callback("on_train_epoch_start", flip)
    whole.train()
    cut.add_callback("on_train_epoch_start", flip)
    cut.add_callback("on_fit_epoch_end", stop)
    with pytest.raises(Interrupted):
        cut.train()
    resumed = Watched(overrides={"resume": str(cut.last)})
    resumed.add_callback("on_train_epoch_start", flip)
    resumed.train()
    assert resumed.trained == whole.trained[epoch + 1 :]
    assert resumed.freeze_layer_names == whole.freeze_layer_names == ["model.22"]
    assert same(weights(whole.last), weights(resumed.last))


def test_another_plan_may_be_given_to_a_run_that_goes_on(tiny_data: Path, tmp_path: Path):
    make(tiny_data, tmp_path, epochs=1, freeze=2).train()
    last = str(tmp_path / "run" / "weights" / "last.pt")
    resumed = Watched(overrides={"resume": last, "epochs": 3, "freeze": 4, "unfreeze_epoch": 2})
    resumed.train()
    assert [3 in layers for layers in resumed.trained] == [False, True]
