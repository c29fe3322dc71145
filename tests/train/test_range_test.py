"""The range test on trainers: whose steps it makes, what it leaves as it was, and lr0=find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from golden.golden import shared_data
from sightline import YOLO
from sightline.errors import SettingsError, SettingValueError, TrainingError
from sightline.train import range_test as module
from sightline.train.detect import DetectionTrainer
from sightline.train.range_test import range_test
from sightline.train.twin import copy_of

FAST: dict[str, Any] = {
    "imgsz": 64, "batch": 4, "nbs": 4, "epochs": 2, "workers": 0, "amp": False, "verbose": False, "device": "cpu",
    "plots": False, "optimizer": "SGD",
}  # fmt: skip
TENFOLD = {"box": 75.0, "cls": 5.0, "dfl": 15.0}  # the defaults are 7.5, 0.5 and 1.5


def trainer_of(model: str, data: Path, folder: Path, kind: type = DetectionTrainer, **settings: Any) -> Any:
    return kind(overrides={**FAST, "model": model, "data": str(data), "project": str(folder / "runs"), **settings})


class Recorder(DetectionTrainer):
    """Notes what every step was made with. `log` cannot be copied: the copy that the test runs on shares it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.log: Any = Log()
        self.steps = 0

    def optimizer_step(self) -> None:
        self.steps += 1
        self.log.append(
            [(group.get("name"), group["lr"], group.get("momentum")) for group in self.optimizer.param_groups]
        )
        super().optimizer_step()


class Log(list[Any]):
    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("one log")


def test_it_makes_the_steps_of_the_trainer_and_leaves_everything_as_it_was(
    tiny_data: Path, tiny_model: str, tmp_path: Path
):
    settings = {"backbone_lr_ratio": 0.1, "lr_scale": "linear", "lr_base_batch": 8, "nbs": 8, "lr_find_steps": 20}
    trainer = trainer_of(tiny_model, tiny_data, tmp_path, Recorder, **settings)
    trainer.add_callback("on_train_start", lambda t: pytest.fail("callbacks belong to the run"))
    trainer.source = YOLO(tiny_model).model
    weights = {name: value.clone() for name, value in trainer.source.state_dict().items()}
    args, state = trainer.args.to_dict(), torch.get_rng_state()
    python = np.random.get_state()[1].copy()

    test = range_test(trainer)

    np.testing.assert_allclose(test.rates, np.geomspace(1e-6, 1.0, 20)[: len(test.rates)])
    assert test.images == 8  # two batches a step
    assert (test.optimizer, len(trainer.log)) == ("SGD", len(test.rates))
    for rate, groups in zip(test.rates, trainer.log, strict=True):
        for name, lr, momentum in groups:  # lr_scale: batch 4 of 8 is half
            assert lr == pytest.approx(rate * 0.5 * (0.1 if "×0.1" in name else 1.0))
            assert momentum == trainer.args.momentum  # that of the run, not of its warm-up
    assert {round(factor, 3) for factor in test.groups.values()} == {0.5, 0.05}

    assert trainer.steps == 0  # on the copy
    assert trainer.args.to_dict() == args
    assert trainer.model == tiny_model
    assert trainer.optimizer is None
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == python).all()
    assert all(torch.equal(value, weights[name]) for name, value in trainer.source.state_dict().items())
    assert not list(tmp_path.iterdir())

    again = range_test(trainer)
    np.testing.assert_array_equal(again.losses, test.losses)
    np.testing.assert_array_equal(again.probed, test.probed)


def test_the_probe_is_the_loss_of_the_trainer_by_hand(tiny_data: Path, tiny_model: str, tmp_path: Path):
    """The first value is the loss that a run has in its first batch, if that is large enough."""
    test = range_test(trainer_of(tiny_model, tiny_data, tmp_path, batch=16, lr_find_steps=20, lr_find_max=1e-5))
    trainer = trainer_of(tiny_model, tiny_data, tmp_path, batch=16)

    class Stop(Exception): ...

    def stop(t: Any) -> None:
        raise Stop

    trainer.add_callback("on_before_backward", stop)
    with pytest.raises(Stop):
        trainer.train()
    assert test.beginning == pytest.approx(float(trainer.loss.detach()) / 8, rel=1e-5)
    assert np.abs(test.probed - test.beginning).max() < 0.05 * test.beginning  # rates that do nothing


# 2: a network that is lost comes back with a lower loss than ever
@pytest.mark.parametrize("seed", [2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (0, 1, 3))])
def test_ten_times_the_gains_move_the_suggestion_down_tenfold(
    seed: int, tiny_data: Path, tiny_model: str, tmp_path: Path
):
    """With plain gradients: clipping would hide it, and the Adam family does not see the scale of a loss at all."""
    common = {"clip_grad": 0, "seed": seed, "batch": 8, "nbs": 8}
    plain = range_test(trainer_of(tiny_model, tiny_data, tmp_path, **common))
    tenfold = range_test(trainer_of(tiny_model, tiny_data, tmp_path, **common, **TENFOLD))
    assert tenfold.beginning == pytest.approx(10 * plain.beginning, rel=1e-4)
    assert 5 < plain.reading.suggestion / tenfold.reading.suggestion < 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ten_times_the_gains_move_the_suggestion_down_tenfold_on_bccd(seed: int, tmp_path: Path):
    common = {"clip_grad": 0, "seed": seed, "imgsz": 96, "batch": 16, "nbs": 16, "epochs": 15}
    data = shared_data("bccd") / "bccd.yaml"
    plain = range_test(trainer_of("yolo26n.yaml", data, tmp_path, **common))
    tenfold = range_test(trainer_of("yolo26n.yaml", data, tmp_path, **common, **TENFOLD))
    assert 5 < plain.reading.suggestion / tenfold.reading.suggestion < 20


def test_train_with_lr0_find_is_the_run_with_that_rate(
    tiny_data: Path,
    tiny_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(module, "read", lambda *_: module.Reading(0.002, 0.003, 0.03, None, 1.0, 0.1))
    settings = {
        **FAST,
        "data": str(tiny_data),
        "epochs": 1,
        "project": str(tmp_path),
        "optimizer": "auto",
        "verbose": True,
    }
    found, given = YOLO(tiny_model), YOLO(tiny_model)
    found.train(**settings, name="found", lr0="find", lr_find_steps=20, lr_find_max=1e-3)
    assert (found.trainer.args.lr0, found.trainer.args.origin("lr0")) == (0.003, "auto")
    printed = capsys.readouterr().out
    assert "lr0=find: trying learning rates before the run" in printed
    assert "suggestion: lr0=0.003" in printed
    text = (tmp_path / "found" / "args.yaml").read_text(encoding="utf-8")
    assert "lr0: 0.003  # auto" in text
    assert yaml.safe_load(text)["optimizer"] == "MuSGD"
    numbers = json.loads((tmp_path / "found" / "lr_find.json").read_text(encoding="utf-8"))
    assert numbers["suggestion"] == 0.003
    assert len(numbers["lr"]) == len(numbers["loss"]) == 20
    assert (tmp_path / "found" / "lr_find.png").stat().st_size > 10_000

    given.train(**settings, name="given", lr0=0.003)
    for name, value in found.model.state_dict().items():
        assert torch.equal(value, given.model.state_dict()[name]), name


def test_a_curve_that_never_falls_ends_the_run_before_it_begins(
    tiny_data: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "read", lambda *_: module.Reading(None, None, None, None, 0.0, 0.1))
    with pytest.raises(TrainingError, match=r"the loss never fell while lr0 went from 1e-06"):
        trainer_of(tiny_model, tiny_data, tmp_path, lr0="find", lr_find_steps=20).train()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr0": "find", "dry_run": True}, "lr0=find .* dry_run=True"),
        ({"lr0": "search"}, "lr0='search'.*a number from 0 to 1, or find"),
        ({"lr0": 1.5}, "lr0=1.5"),
        ({"lr_find_min": 0.1, "lr_find_max": 0.01}, "lr_find_min=0.1 is not below lr_find_max=0.01"),
    ],
)
def test_what_cannot_be_meant(settings: dict[str, Any], message: str, tiny_data: Path, tiny_model: str, tmp_path: Path):
    with pytest.raises(SettingsError, match=message):
        trainer_of(tiny_model, tiny_data, tmp_path, **settings)


@pytest.mark.parametrize("settings", [{"nproc": 2}, {"dry_run": True}])
def test_where_the_test_makes_no_sense(settings: dict[str, Any], tiny_data: Path, tiny_model: str, tmp_path: Path):
    with pytest.raises(SettingValueError, match=r"2 are to train|dry_run=True out"):
        range_test(trainer_of(tiny_model, tiny_data, tmp_path, **settings))


def test_several_processes_are_refused_before_they_start(tiny_data: Path, tiny_model: str, tmp_path: Path):
    with pytest.raises(SettingValueError, match="looked for in one process, but 2 are to train"):
        trainer_of(tiny_model, tiny_data, tmp_path, lr0="find", nproc=2).train()


def test_a_copy_has_settings_of_its_own(tiny_data: Path, tiny_model: str, tmp_path: Path):
    trainer = trainer_of(tiny_model, tiny_data, tmp_path, Recorder)
    twin = copy_of(trainer)
    twin.args.assign("lr0", 0.5, origin="auto")
    twin.momentum = 0.5  # the name of a setting: goes to the copy's
    assert (trainer.args.lr0, trainer.args.momentum, twin.args.momentum) == (0.01, 0.937, 0.5)
    assert twin.log is trainer.log
    assert twin.guard is not trainer.guard
    assert twin.guard.tell.__self__ is twin.events is not trainer.events
    assert not any(twin.callbacks.values())
    assert any(trainer.callbacks.values())
