"""The batch test on trainers: what it measures, and what it leaves as it was."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightline import YOLO
from sightline.errors import SettingValueError
from sightline.train import batch_test as module
from sightline.train.batch_test import batch_test
from sightline.train.detect import DetectionTrainer
from sightline.train.twin import twin_of

FAST: dict[str, Any] = {
    "imgsz": 64, "batch": 4, "epochs": 2, "workers": 0, "amp": False, "verbose": False, "device": "cpu",
    "plots": False, "optimizer": "SGD", "batch_find_steps": 10, "batch_find_max": 4,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMED", 1)
    monkeypatch.setattr(module, "ENOUGH_SECONDS", 0.0)


def trainer_of(model: str, data: Path, folder: Path, **settings: Any) -> Any:
    overrides = {**FAST, "model": model, "data": str(data), "project": str(folder / "runs"), **settings}
    return DetectionTrainer(overrides=overrides)


def test_it_measures_and_leaves_everything_as_it_was(tiny_data: Path, tiny_model: str, tmp_path: Path):
    trainer = trainer_of(tiny_model, tiny_data, tmp_path, nbs=8)
    trainer.source = YOLO(tiny_model).model
    weights = {name: value.clone() for name, value in trainer.source.state_dict().items()}
    args, state = trainer.args.to_dict(), torch.get_rng_state()

    test = batch_test(trainer)

    assert [size.batch for size in test.sizes] == [1, 2, 4]
    assert all(size.pass_seconds > 0 and size.step_seconds > 0 for size in test.sizes)
    assert all(math.isfinite(size.memory) for size in test.sizes)
    assert (test.batch, test.accumulate, test.optimizer) == (4, 2, "SGD")
    assert test.noise.steps == 5
    assert test.noise.images > 0
    assert test.choice is not None
    assert test.settings()["batch"] == test.choice.batch
    lines = list(test.lines())
    assert "img/s" in lines[0]
    assert lines[-1].startswith("recommended: batch=")
    assert "now: batch=4 × 2 = 8 images a step, lr0=0.01 with SGD" in lines

    assert trainer.args.to_dict() == args
    assert trainer.optimizer is None
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in trainer.source.state_dict().items())
    assert not list(tmp_path.iterdir())


def test_the_squares_are_those_of_the_gradients_of_the_pieces(
    tiny_data: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Against gradients taken one piece at a time by `autograd.grad`, in a network without BatchNorm's memory."""
    seen: dict[str, Any] = {}

    def keep(piece: np.ndarray, mean: np.ndarray, *, images: float, pieces: int) -> Any:
        seen.update(piece=piece, mean=mean, images=images, pieces=pieces)
        return module.NoiseScale(1.0, 1.0, 1.0, 5)

    monkeypatch.setattr(module, "noise_scale", keep)
    batches: list[dict[str, Any]] = []
    real = module.split_batch

    def record(batch: dict[str, Any], size: int) -> list[dict[str, Any]]:
        found = real(batch, size)
        batches.append({"pieces": [dict(piece) for piece in found]})
        return found

    monkeypatch.setattr(module, "split_batch", record)
    trainer = trainer_of(tiny_model, tiny_data, tmp_path, lr0=0.0, nbs=4, lr_min=0.0, warmup_epochs=0.0)
    with twin_of(trainer) as twin:
        module._noise(twin, module.endless_batches(twin), 1)
        assert (seen["images"], seen["pieces"]) == (1.0, 4)
        grads = []
        parameters = [p for p in twin.model.parameters() if p.requires_grad]
        for piece in batches[-1]["pieces"]:
            twin._forward(dict(piece))
            found = torch.autograd.grad(twin.loss, parameters, allow_unused=True)
            grads.append(torch.cat([g.flatten() for g in found if g is not None]) / len(piece["img"]))
    stacked = torch.stack(grads).double()
    assert seen["piece"][-1] == pytest.approx(float(stacked.square().sum(1).mean()), rel=1e-3)
    assert seen["mean"][-1] == pytest.approx(float(stacked.mean(0).square().sum()), rel=1e-3)


def test_a_batch_that_does_not_fit_ends_the_test(
    tiny_data: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = module._timed_step

    def short(trainer: Any, batch: dict[str, Any]) -> Any:
        if len(batch["img"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(trainer, batch)

    monkeypatch.setattr(module, "_timed_step", short)
    test = batch_test(trainer_of(tiny_model, tiny_data, tmp_path))
    assert [(size.batch, size.fits) for size in test.sizes] == [(1, True), (2, True), (4, False)]
    assert math.isinf(test.sizes[-1].memory)
    assert test.choice is not None
    assert test.choice.batch == 2
    assert any(line.strip() == "4  out of memory" for line in test.lines())


def test_what_makes_no_sense(tiny_data: Path, tiny_model: str, tmp_path: Path):
    with pytest.raises(SettingValueError, match="lr0=find leaves it nothing: give lr0 a number"):
        batch_test(trainer_of(tiny_model, tiny_data, tmp_path, lr0="find"))
    with pytest.raises(SettingValueError, match="batch-find is for a run that is to begin: leave dry_run=True out"):
        batch_test(trainer_of(tiny_model, tiny_data, tmp_path, dry_run=True))


def test_lr_scale_is_said(tiny_data: Path, tiny_model: str, tmp_path: Path):
    test = batch_test(trainer_of(tiny_model, tiny_data, tmp_path, lr_scale="linear", lr_base_batch=8, nbs=4))
    assert test.lr == pytest.approx(0.005)
    assert test.settings()["lr_scale"] == "none"  # the rate that is recommended is not to be scaled again
