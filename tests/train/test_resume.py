"""Stopped after any batch and gone on with, a run ends with the same bytes as one that was never stopped."""

from __future__ import annotations

import csv
import math
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sightline.artifacts.checkpoint import load_checkpoint
from sightline.callbacks.base import Callback
from sightline.data import loader as ours
from sightline.errors import Interrupted
from sightline.files import previous_of
from sightline.train.detect import DetectionTrainer
from train.test_trainer import make

# Four batches an epoch, three epochs; two batches make a step after a warm-up of half an epoch. Mosaic closes for the
# last epoch.
RUN: dict[str, Any] = {
    "epochs": 3, "batch": 2, "nbs": 6, "warmup_epochs": 0.5, "close_mosaic": 1, "optimizer": "MuSGD", "mosaic": 1.0,
    "mixup": 0.3, "multi_scale": 0.5, "save_minutes": 0,
}  # fmt: skip


class Chance(Callback):
    """Draws from all generators in every batch, keeps what it drew, and meddles with the run at the ends of epochs."""

    def __init__(self) -> None:
        self.drawn: list[float] = []
        self.epochs = 0

    def on_train_start(self, trainer: Any) -> None:
        random.random(), np.random.rand(), torch.rand(1)

    def on_train_epoch_start(self, trainer: Any) -> None:
        self.epochs += 1
        trainer.args.box *= 1.1
        torch.rand(1)

    def on_train_batch_start(self, trainer: Any) -> None:
        self.drawn += [random.random(), float(np.random.rand()), float(torch.rand(1))]
        with torch.no_grad():  # as dropout would
            next(trainer.model.parameters()).mul_(1 + 1e-3 * float(torch.rand(1)))

    def on_fit_epoch_end(self, trainer: Any) -> None:
        self.drawn.append(-1.0)
        trainer.args.cls *= 0.9
        torch.rand(1)

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn, "epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.drawn, self.epochs = state["drawn"], state["epochs"]


class Processes(DetectionTrainer):
    """On a CPU batches come from this process; here they come from workers as for a GPU."""

    def get_dataloader(self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        if mode == "val":
            return super().get_dataloader(dataset_path, batch_size, rank, mode)
        dataset = self.build_dataset(dataset_path, mode, batch_size)
        return ours.build_loader(dataset, batch_size, shuffle=True, workers=2, seed=self.args.seed, accelerator=True)


class Torchs(DetectionTrainer):
    """A loader of torch's, whose order and workers come from the generator of the process."""

    def get_dataloader(self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        if mode == "val":
            return super().get_dataloader(dataset_path, batch_size, rank, mode)
        dataset = self.build_dataset(dataset_path, mode, batch_size)
        return DataLoader(dataset, batch_size, shuffle=True, collate_fn=dataset.collate_fn)


def stop_after(step: int) -> Any:
    """As if SIGTERM came while batch `step` of the run, counted from 0, was computed."""

    def ask(trainer: Any) -> None:
        if trainer.iteration == step:
            trainer.interrupt.asked = signal.SIGTERM

    return ask


def finish(trainer: Any, *stops: int, change: dict[str, Any] | None = None) -> Any:
    """Run to the end, stopped and gone on with after each of these batches, with these settings changed."""
    kind = type(trainer)
    for step in stops:
        trainer.add_callback(Chance())
        trainer.add_callback("on_before_backward", stop_after(step))
        with pytest.raises(Interrupted, match=r"sightline train resume=.*last\.pt") as caught:
            trainer.train()
        assert caught.value.code == 143
        state = load_checkpoint(trainer.last)
        assert state["epoch"] * 4 + state["run"]["batches_done"] == step + 1
        trainer = kind(overrides={"resume": str(trainer.last), **(change or {})})
    trainer.add_callback(Chance())
    trainer.train()
    return trainer


def everything(trainer: Any) -> dict[str, Any]:
    """All that a run ends with, flat, without what says when and where it was."""
    flat: dict[str, Any] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{name}.{key}")
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                walk(item, f"{name}.{number}")
        else:
            flat[name] = value

    for file in (trainer.last, trainer.best):
        walk(load_checkpoint(file), file.name)
    with trainer.csv.open() as file:
        walk([{k: v for k, v in row.items() if k != "time"} for row in csv.DictReader(file)], "results")
    ignored = ("save_dir", ".time", ".args.", ".origins.", "plot_idx", "random_before_batches")
    return {name: value for name, value in flat.items() if not any(part in name for part in ignored)}


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    def equal(x: Any, y: Any) -> bool:
        if isinstance(x, torch.Tensor):
            return torch.equal(x, y)
        return x == y or (isinstance(x, float) and math.isnan(x) and math.isnan(y))

    return [name for name in a.keys() | b.keys() if name not in a or name not in b or not equal(a[name], b[name])]


@pytest.fixture(scope="module")
def whole(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return everything(finish(make(tiny_data, tmp_path_factory.mktemp("whole"), **RUN)))


def test_a_run_that_is_stopped_again_and_again(whole: dict[str, Any], tiny_data: Path, tmp_path: Path):
    # With gradients waiting for their step, after the last batch of an epoch, and with mosaic closed.
    stopped = finish(make(tiny_data, tmp_path, **RUN), 4, 7, 9)
    assert differences(whole, everything(stopped)) == []
    assert len(stopped.objects[-1].drawn) == 3 * 12 + 3 + 1  # the last one after the final validation
    assert stopped.objects[-1].epochs == 3


def test_with_workers(whole: dict[str, Any], tiny_data: Path, tmp_path: Path):
    stopped = finish(make(tiny_data, tmp_path, Processes, **RUN), 5)
    assert stopped.train_loader.workers == 2
    found = differences(whole, everything(stopped))
    assert [name for name in found if not name.endswith("run.trainer")] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", [DetectionTrainer, Processes])
@pytest.mark.parametrize("step", range(12))
def test_stopped_after_each_batch(step: int, kind: Any, whole: dict[str, Any], tiny_data: Path, tmp_path: Path):
    found = differences(whole, everything(finish(make(tiny_data, tmp_path, kind, **RUN), step)))
    assert [name for name in found if not name.endswith("run.trainer")] == []


@pytest.mark.slow
def test_a_loader_of_torch(tiny_data: Path, tmp_path: Path):
    a, b = (make(tiny_data, tmp_path / name, Torchs, **RUN) for name in ("whole", "stopped"))
    assert differences(everything(finish(a)), everything(finish(b, 1, 6))) == []


def test_no_batch_is_prepared_twice(tiny_data: Path, tmp_path: Path):
    """A resumed run passes over what it has had without decoding it."""
    trainer = make(tiny_data, tmp_path, **{**RUN, "epochs": 1, "mosaic": 0.0, "mixup": 0.0})
    trainer.add_callback("on_before_backward", stop_after(2))
    with pytest.raises(Interrupted):
        trainer.train()
    asked: list[int] = []
    resumed = DetectionTrainer(overrides={"resume": str(trainer.last)})

    def watch(trainer: Any) -> None:
        dataset = trainer.train_loader.dataset
        load = dataset.load
        dataset.load = lambda i: (asked.append(i), load(i))[1]

    resumed.add_callback("on_train_start", watch)
    resumed.train()
    assert len(asked) == 2  # the last batch of two images
    assert previous_of(trainer.last).exists()


@pytest.mark.slow
def test_in_half_precision(tiny_data: Path, tmp_path: Path):
    a, b = (make(tiny_data, tmp_path / name, **{**RUN, "amp": "bf16"}) for name in ("whole", "stopped"))
    assert a.precision.name == "bf16"
    assert differences(everything(finish(a)), everything(finish(b, 2, 7))) == []
