"""Memory that runs out in training and validation: smaller pieces, the same steps, and the run ends normally."""

from __future__ import annotations

import functools
import gc
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

import sightline
from e2e.faults.test_nan import run
from sightline.artifacts.checkpoint import load_checkpoint
from sightline.errors import TrainingError
from sightline.train.detect import DetectionTrainer
from sightline.train.ema import unwrap
from sightline.validate.detect import DetectionValidator

SAYINGS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "python": MemoryError(),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"),
}
Train = Callable[..., DetectionTrainer]


@pytest.fixture
def train(tiny_data: Path, tiny_model: str, tmp_path: Path) -> Train:
    return functools.partial(run, tiny_data, tmp_path, model=tiny_model)


def narrow(most: int, error: Exception, *, epoch: int = 1, where: str = "forward") -> type[DetectionTrainer]:
    """A trainer whose memory holds `most` images from an epoch (from 0) on."""

    class Narrow(DetectionTrainer):
        shown: list[int]

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.shown = []

        def _forward(self, batch: dict[str, Any]) -> Any:
            self.size = len(batch["img"])
            if where == "forward" and self.epoch >= epoch and self.size > most:
                raise error
            if torch.is_grad_enabled():
                self.shown.append(self.size)
            return super()._forward(batch)

        def _backward(self) -> None:
            if where == "backward" and self.epoch >= epoch and self.size > most:
                super()._backward()  # gradients are there already, in part
                raise error
            super()._backward()

    return Narrow


@pytest.mark.parametrize("kind", SAYINGS)
def test_a_batch_that_does_not_fit_is_taken_in_pieces(kind: str, train: Train, caplog: pytest.LogCaptureFixture):
    trainer = train(narrow(2, SAYINGS[kind]), epochs=3)
    assert trainer.epoch == 2
    assert trainer.shown == [4, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert trainer.micro_batches.limit == 2
    (event,) = [event for event in trainer.guard.events if event["kind"] == "out_of_memory"]
    assert (event["epoch"], event["evidence"]["images_at_once"]) == (2, 2)
    text = next(r.getMessage() for r in caplog.records if "out of memory" in r.getMessage())
    assert "at most 2 images" in text
    assert "BatchNorm" in text
    assert trainer.optimizer.param_groups[0]["initial_lr"] == 0.001


def test_a_resumed_run_remembers(train: Train):
    first = train(narrow(1, MemoryError(), epoch=0), epochs=1)
    assert first.micro_batches.limit == 1
    second = narrow(1, MemoryError(), epoch=0)(overrides={"resume": str(first.last), "epochs": 2})
    second.train()
    assert second.shown == [1] * 8
    assert [event["kind"] for event in second.guard.events] == []  # nothing ran out again


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_the_weights_are_those_of_a_run_with_enough_memory(where: str, train: Train):
    """With BatchNorm's statistics held; a gradient of the batch before waits for its step when memory runs out."""
    settings = {"freeze_bn": True, "nbs": 8, "epochs": 2, "amp": False, "optimizer": "SGD", "lr0": 0.01}
    start: list[dict[str, torch.Tensor]] = []

    def hold(trainer: DetectionTrainer) -> None:
        for module in unwrap(trainer.model).modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        start.append({name: value.clone() for name, value in unwrap(trainer.model).state_dict().items()})

    wide = train(callbacks={"on_train_batch_start": hold}, **settings)
    tight = train(narrow(1, MemoryError(), epoch=0, where=where), callbacks={"on_train_batch_start": hold}, **settings)
    assert tight.shown[-1] == 1
    weights = unwrap(wide.model).state_dict()
    for name, value in unwrap(tight.model).state_dict().items():
        moved = (weights[name] - start[0][name]).abs().max() if value.is_floating_point() else 0
        torch.testing.assert_close(value, weights[name], rtol=1e-4, atol=1e-4 * float(moved) + 1e-7)
    for name, values in wide.history.items():
        if name.startswith("train/"):
            assert tight.history[name] == pytest.approx(values, rel=1e-3), name


def test_a_single_image_that_does_not_fit_ends_the_run_with_advice(train: Train):
    with pytest.raises(TrainingError, match="a single image") as caught:
        train(narrow(0, MemoryError()))
    assert "imgsz" in str(caught.value)


def test_a_step_that_runs_out_of_memory_is_undone(train: Train):
    class Failing(DetectionTrainer):
        weights: list[dict[str, torch.Tensor]]

        def optimizer_step(self) -> None:
            if self.epoch == 0 and self.batch_index == 1:
                with torch.no_grad():
                    next(unwrap(self.model).parameters()).mul_(3.0)  # a part of the weights has moved
                raise MemoryError
            super().optimizer_step()

    start: list[torch.Tensor] = []
    after: list[torch.Tensor] = []

    def first(trainer: DetectionTrainer) -> torch.Tensor:
        return next(unwrap(trainer.model).parameters()).detach().clone()

    trainer = train(
        Failing,
        epochs=2,
        callbacks={
            "on_train_start": lambda t: start.append(first(t)),
            "on_train_batch_end": lambda t: after.append(first(t)),
        },
    )
    assert [event["kind"] for event in trainer.guard.events] == ["out_of_memory", "step_undone"]
    assert torch.equal(after[1], start[0])
    assert not torch.equal(after[2], start[0])  # and on it goes
    assert trainer.micro_batches.limit == 2
    assert trainer.optimizer.param_groups[0]["initial_lr"] == 0.001


def test_other_errors_are_not_taken_for_memory(train: Train):
    with pytest.raises(RuntimeError, match="shape"):
        train(narrow(2, RuntimeError("shape mismatch")))


@pytest.mark.parametrize("kind", SAYINGS)
def test_validation_takes_smaller_pieces_and_finds_the_same(kind: str, train: Train):
    class Narrow(DetectionValidator):
        shown: list[int] = []  # noqa: RUF012

        def postprocess(self, preds: Any) -> Any:
            size = len(preds[0] if isinstance(preds, tuple) else preds)
            if self.training and size > 1:
                raise SAYINGS[kind]
            self.shown.append(size)
            return super().postprocess(preds)

    class Trainer(DetectionTrainer):
        def get_validator(self) -> Any:
            super().get_validator()
            return Narrow(self.test_loader, save_dir=self.save_dir, args=self.args.copy(), _callbacks=self.callbacks)

    Narrow.shown.clear()
    wide = train(epochs=1, val=True)
    tight = train(Trainer, epochs=1, val=True)
    assert Narrow.shown[:4] == [1, 1, 1, 1]
    assert tight.validator.images_at_once == 1
    assert load_checkpoint(tight.last)["run"]["ranks"][0]["micro_batches"] == {"limit": None, "validation_limit": 1}
    assert [event["evidence"]["reason"] for event in tight.guard.events] == ["validation"]
    for name, value in wide.metrics.items():
        if name.startswith("metrics/"):
            assert tight.metrics[name] == pytest.approx(value), name


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space")
def test_memory_that_really_runs_out(tiny_data: Path, tmp_path: Path):
    script = Path(__file__).with_name("little_memory.py")
    # Large blocks straight from the system: the limit counts addresses, which the allocator else keeps when it is done.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(2**18)}
    environment["PYTHONPATH"] = str(Path(sightline.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, str(script), str(tiny_data), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"epochs 3 pieces [1-4] finite True", done.stdout), done.stdout
    assert "out of memory (RuntimeError" in done.stdout + done.stderr


def test_a_backward_pass_that_fails_leaves_no_graph(train: Train):
    """torch's engine keeps the steps that were ready when one failed, and their activations with them."""
    left: list[int] = []

    class Failing(DetectionTrainer):
        def _backward(self) -> None:
            if len(self.loss_items) and self.images_in_batch == 4 and self.micro_batches.limit is None:
                # The first layer's gradient comes last; the heads' other branches are ready in the meantime.
                self.fail = unwrap(self.model).model[-1].one2one_cv2[0][0].conv.weight.register_hook(self.raise_it)
            try:
                super()._backward()
            finally:
                if self.micro_batches.limit is None:
                    self.fail.remove()

        @staticmethod
        def raise_it(gradient: torch.Tensor) -> None:
            raise MemoryError

        def _forward(self, batch: dict[str, Any]) -> Any:
            if self.micro_batches.limit is not None:
                gc.collect()
                left.append(
                    sum(
                        type(each) is torch.Tensor and each.grad_fn is not None and len(each.shape) == 4
                        for each in gc.get_objects()
                    )
                )
            return super()._forward(batch)

    trainer = train(Failing, epochs=1)
    assert trainer.micro_batches.limit == 2
    assert left[0] == 0


@pytest.mark.slow
def test_resident_memory_stays_flat(train: Train):
    """With all that happens at the end of an epoch, and a bad step now and then."""
    resident: list[int] = []

    def note(trainer: DetectionTrainer) -> None:
        gc.collect()
        resident.append(psutil.Process().memory_info().rss)

    def spoil(trainer: DetectionTrainer) -> None:
        if trainer.epoch % 40 == 7 and trainer.batch_index == 1:
            trainer.loss = trainer.loss * float("nan")

    trainer = train(
        callbacks={"on_fit_epoch_end": note, "on_before_backward": spoil}, epochs=250, val=True, patience=0
    )  # fmt: skip
    assert trainer.epoch == 249
    assert [event["kind"] for event in trainer.guard.events] == ["skipped_step"] * 7
    assert max(resident[200:250]) < 1.05 * max(resident[40:60]), [size >> 20 for size in resident[::10]]
