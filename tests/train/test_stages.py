"""Stages of a run in force: on the loss that is computed, and on the pixels that a worker process makes."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from sightline.config.load import make_settings
from sightline.errors import SettingValueError
from sightline.train.detect import DetectionTrainer
from sightline.train.stages import StagedGains
from train.test_resume import Processes, differences, everything, finish
from train.test_schedule_settings import small
from train.test_trainer import Interrupted

STILL = {"optimizer": "SGD", "lr0": 0.0, "warmup_epochs": 0, "weight_decay": 0.0, "val": False}  # weights stay


def items(data: Path, folder: Path, change: Any = None, **settings: Any) -> list[dict[str, float]]:
    """The loss items of every batch of a run in which no weight moves."""
    found: list[dict[str, float]] = []
    trainer = small(data, folder, **{"epochs": 3, **STILL, **settings})
    trainer.add_callback(
        "on_before_backward", lambda t: found.append({name: float(value) for name, value in t.loss_items.items()})
    )
    if change is not None:
        trainer.add_callback("on_train_epoch_start", change)
    trainer.train()
    return found


def test_the_gains_follow_the_stages(tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    plain = items(tiny_data, tmp_path / "a")
    schedule = [{"until": 1, "box": 2.0, "cls": 0.5}, {"until": 2}, {"dfl": 3.0}]
    with caplog.at_level("INFO", logger="sightline"):
        staged = items(tiny_data, tmp_path / "b", loss_schedule=schedule, cls_loss_weight=0.8)
    factors = [(2.0, 0.4, 1.0), (1.0, 0.8, 1.0), (1.0, 0.8, 3.0)]
    for batch, (before, after) in enumerate(zip(plain, staged, strict=True)):
        for name, factor in zip(("box_loss", "cls_loss", "l1_loss"), factors[batch // 2], strict=True):
            assert before[name] > 0
            assert after[name] == pytest.approx(factor * before[name], rel=1e-5)
    assert "cls_loss_weight: gain cls 0.5 × 0.8 = 0.4" in caplog.text
    assert "loss_schedule: to epoch 1 box 2, cls 0.5; to epoch 2 as set; then dfl 3" in caplog.text
    assert "epoch 2: loss_schedule stage 2 of 3: as set" in caplog.text
    assert "epoch 3: loss_schedule stage 3 of 3: dfl 3" in caplog.text


def test_stages_and_weights_may_change_while_it_runs(tiny_data: Path, tmp_path: Path):
    plain = items(tiny_data, tmp_path / "a")

    def change(trainer: Any) -> None:
        if trainer.epoch == 1:
            trainer.args.box_loss_weight = 4.0
        if trainer.epoch == 2:
            trainer.args.loss_schedule = [{"cls": 3.0}]

    changed = items(tiny_data, tmp_path / "b", change)
    ratios = [
        [round(after[name] / before[name], 4) for name in ("box_loss", "cls_loss")]
        for before, after in zip(plain, changed, strict=True)
    ]
    assert ratios == [[1, 1]] * 2 + [[4, 1]] * 2 + [[4, 3]] * 2


def test_validation_weighs_as_training_does(tiny_data: Path, tmp_path: Path):
    def run(folder: str, **settings: Any) -> Any:
        trainer = small(tiny_data, tmp_path / folder, epochs=2, **{**STILL, "val": True, **settings})
        trainer.train()
        return trainer.history["val/box_loss"]

    plain, staged = run("a"), run("b", loss_schedule=[{"until": 1, "box": 2.0}, {"box": 3.0}])
    assert staged == pytest.approx([2 * plain[0], 3 * plain[1]], rel=1e-5)


@pytest.mark.slow
def test_two_ranks_are_in_the_same_stage(tiny_data: Path, tmp_path: Path):
    def run(folder: str, **settings: Any) -> Any:
        trainer = small(tiny_data, tmp_path / folder, epochs=2, nproc=2, **{**STILL, **settings})
        trainer.train()
        return trainer

    plain, staged = run("a"), run("b", loss_schedule=[{"until": 1, "box": 2.0}, {"box": 3.0}], accumulate=2)
    before, after = (trainer.history["train/box_loss"] for trainer in (plain, staged))
    assert after == pytest.approx([2 * before[0], 3 * before[1]], rel=1e-5)
    assert staged.in_force["accumulate"].startswith("4 images × 2 batches = 8 images")


def test_staged_gains_are_the_settings_otherwise():
    settings = make_settings("train", {"box_loss_weight": 2.0, "epochs": 7})
    gains = StagedGains(settings)
    assert (gains.box, gains.epochs, gains.get("lr0")) == (15.0, 7, 0.01)
    gains.box = 5.0  # as scripts do it
    assert (settings.box, gains.box) == (5.0, 10.0)
    assert not hasattr(gains, "no_such_setting")
    for twin in (copy.deepcopy(gains), pickle.loads(pickle.dumps(gains))):
        assert (twin.box, twin.epochs) == (10.0, 7)


def loaders(data: Path, folder: Path, **settings: Any) -> Any:
    """A trainer whose loaders are there, with the batches that an epoch brings."""
    trainer = small(data, folder, **{"epochs": 4, "mosaic": 0.0, "seed": 3, **settings})
    trainer.add_callback("on_train_start", lambda t: (_ for _ in ()).throw(Interrupted))
    with pytest.raises(Interrupted):
        trainer.train()
    return trainer


STAGES = [
    {"until": 2, "mosaic": 0.8, "mosaic_prob": 0.5, "mixup": 0.5, "copy_paste": 0.5, "degrees": 40.0, "translate": 0.3},
    {"mosaic": 0.0, "degrees": 10.0},
]


def images(trainer: Any, epoch: int) -> torch.Tensor:
    from sightline.data.own_loader import begin_epoch
    from sightline.train import stages

    trainer.epoch = epoch
    begin_epoch(trainer.train_loader, epoch, mixing=True, augmentation=stages.augmentation(trainer))
    return torch.cat([batch["img"] for batch in trainer.train_loader])


def test_a_stage_gives_the_pixels_of_a_run_with_its_values(tiny_data: Path, tmp_path: Path):
    staged = loaders(tiny_data, tmp_path / "a", augment_schedule=STAGES)
    first = {name: value for name, value in STAGES[0].items() if name != "until"}
    as_first = loaders(tiny_data, tmp_path / "b", **first)
    as_second = loaders(tiny_data, tmp_path / "c", degrees=10.0)
    plain = loaders(tiny_data, tmp_path / "d")
    for epoch, reference in ((1, as_first), (2, as_second)):
        assert torch.equal(images(staged, epoch), images(reference, epoch))
        assert not torch.equal(images(staged, epoch), images(plain, epoch))


def test_stages_reach_worker_processes(tiny_data: Path, tmp_path: Path):
    here = loaders(tiny_data, tmp_path / "a", augment_schedule=STAGES)
    there = loaders(tiny_data, tmp_path / "b", trainer=Processes, augment_schedule=STAGES)
    assert there.train_loader.workers == 2
    try:
        for epoch in (1, 2, 0):  # the same processes all along
            assert torch.equal(images(here, epoch), images(there, epoch))
    finally:
        there.train_loader.close()


@pytest.mark.parametrize("kind", [DetectionTrainer, pytest.param(Processes, marks=pytest.mark.slow)])
def test_a_run_with_stages_and_restarts_is_the_same_however_often_it_stops(tiny_data: Path, tmp_path: Path, kind: Any):
    """Every byte, stopped within epochs, before and after boundaries of stages, with gradients that wait for a step."""
    settings = {
        "epochs": 3, "batch": 2, "optimizer": "MuSGD", "close_mosaic": 1, "accumulate": 3, "warmup_steps": 1,
        "scheduler": "warm_restarts", "restart_epoch": 2, "scheduler_step": "iteration", "lr_min": 1e-3,
        "augment_schedule": [{"until": 1, "degrees": 30, "mixup": 0.5}, {"degrees": 5, "transition": 2}],
        "loss_schedule": [{"until": 1, "box": 2.0}, {"box": 0.5, "transition": 1}],
    }  # fmt: skip
    whole = finish(small(tiny_data, tmp_path / "whole", kind, **settings))
    again = finish(small(tiny_data, tmp_path / "again", kind, **settings), 0, 4, 6, 9)
    assert differences(everything(whole), everything(again)) == []


def test_what_would_not_be_in_force_is_refused(tiny_data: Path, tmp_path: Path):
    with pytest.raises(SettingValueError, match=r"loss_schedule=.*does not read settings"):
        small(
            tiny_data, tmp_path, loss=lambda preds, batch: preds["one2one"]["boxes"].sum(), loss_schedule=[{"box": 2}]
        ).train()

    class Plain(Dataset):
        def __len__(self) -> int:
            return 4

    class OwnLoader(DetectionTrainer):
        def get_dataloader(self, *args: Any, **kwargs: Any) -> Any:
            return DataLoader(Plain())

        def set_class_weights(self) -> None:
            pass

    with pytest.raises(SettingValueError, match=r"augment_schedule .* OwnLoader returned a DataLoader"):
        small(tiny_data, tmp_path, trainer=OwnLoader, augment_schedule=STAGES).train()

    class OwnArguments(DetectionTrainer):
        def set_model_attributes(self) -> None:
            super().set_model_attributes()
            self.model.args = {"box": 1.0}

    with pytest.raises(SettingValueError, match=r"cls_loss_weight .* OwnArguments gave the network other settings"):
        small(tiny_data, tmp_path, trainer=OwnArguments, cls_loss_weight=2.0).train()
