"""NaN in input, loss, gradient, weight, optimizer and average: every run ends normally with finite weights."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sightline.artifacts.checkpoint import load_checkpoint
from sightline.cli.main import main
from sightline.doctor.replay import replay
from sightline.errors import CheckpointError
from sightline.train.detect import DetectionTrainer
from sightline.train.ema import unwrap
from sightline.train.guard import Verdict
from sightline.train.recovery import Recovery
from train.test_trainer import make

QUICK = {"epochs": 4, "nbs": 4, "warmup_epochs": 0.0, "optimizer": "SGD", "lr0": 0.001, "lrf": 1.0, "val": False}
Hit = Callable[[DetectionTrainer], bool]
Train = Callable[..., DetectionTrainer]


def at(*moments: tuple[int, int]) -> Hit:
    """Epochs and batches, from 0."""
    return lambda trainer: (trainer.epoch, trainer.batch_index) in moments


def kinds(trainer: DetectionTrainer) -> list[str]:
    return [event["kind"] for event in trainer.guard.events]


def finite(path: Path) -> bool:
    return all(value.isfinite().all() for value in load_checkpoint(path)["model"].values())


def ended_well(trainer: DetectionTrainer, epochs: int) -> None:
    assert trainer.epoch + 1 == epochs
    assert finite(trainer.last)
    assert finite(trainer.best)
    raw = load_checkpoint(trainer.last)["run"]["raw_model"]
    assert all(value.isfinite().all() for value in raw.values())
    assert all(math.isfinite(value) for value in trainer.metrics.values())


def poison_input(hit: Hit) -> type[DetectionTrainer]:
    class Poisoned(DetectionTrainer):
        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            batch = super().preprocess_batch(batch)
            if hit(self):
                batch["img"][1, 0, 5, 5] = math.nan
            return batch

    return Poisoned


@pytest.fixture
def train(tiny_data: Path, tiny_model: str, tmp_path: Path) -> Callable[..., DetectionTrainer]:
    return functools.partial(run, tiny_data, tmp_path, model=tiny_model)


def run(data: Path, folder: Path, kind: type = DetectionTrainer, **settings: Any) -> DetectionTrainer:
    callbacks = settings.pop("callbacks", {})
    trainer = make(data, folder, kind, **{**QUICK, **settings})
    for event, function in callbacks.items():
        trainer.add_callback(event, function)
    trainer.train()
    return trainer


def test_nan_in_the_input_costs_one_step(train: Train):
    trainer = train(poison_input(at((1, 1))), val=True, optimizer="MuSGD")
    ended_well(trainer, 4)
    assert kinds(trainer) == ["skipped_step"]
    (event,) = trainer.guard.events
    assert "loss is not finite" in event["evidence"]["reason"]
    # The columns of that epoch are the mean of its other batches; of the bad one not even the finite terms count.
    assert all(math.isfinite(value) for value in trainer.history["train/cls_loss"])
    assert min(trainer.history["train/box_loss"]) > 0.5 * max(trainer.history["train/box_loss"])


def test_nan_in_the_loss_costs_one_step(train: Train):
    hit = at((1, 0))

    def spoil(trainer: DetectionTrainer) -> None:
        if hit(trainer):
            trainer.loss = trainer.loss * math.nan

    trainer = train(callbacks={"on_before_backward": spoil})
    ended_well(trainer, 4)
    assert kinds(trainer) == ["skipped_step"]


def test_nan_in_a_gradient_costs_one_step(train: Train):
    hit = at((1, 0))

    def spoil(trainer: DetectionTrainer) -> None:
        if hit(trainer):
            next(unwrap(trainer.model).parameters()).grad[0, 0, 0, 0] = math.inf

    trainer = train(callbacks={"on_before_optimizer_step": spoil})
    ended_well(trainer, 4)
    assert "gradient is not finite" in trainer.guard.events[0]["evidence"]["reason"]


@pytest.mark.parametrize("where", ["weight", "momentum", "average"])
def test_nan_in_the_state_brings_the_last_good_state_back(where: str, train: Train):
    hit = at((2, 0))
    rates: list[float] = []

    def spoil(trainer: DetectionTrainer) -> None:
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        if not hit(trainer):
            return
        if where == "weight":
            with torch.no_grad():
                next(unwrap(trainer.model).parameters())[0, 0, 0, 0] = math.nan
        elif where == "momentum":
            state = next(state for state in trainer.optimizer.state.values() if "momentum_buffer" in state)
            state["momentum_buffer"][(0,) * state["momentum_buffer"].ndim] = math.nan
        else:
            next(trainer.ema.ema.parameters())[0, 0, 0, 0] = math.nan

    trainer = train(callbacks={"on_train_batch_end": spoil}, epochs=5)
    ended_well(trainer, 5)
    if where == "average":
        assert kinds(trainer) == ["ema_restored"]
        assert rates[-1] == rates[0]
    else:
        assert kinds(trainer).count("rollback") == 1
        assert rates[-1] == pytest.approx(rates[0] / 2)


def test_bad_steps_in_a_row_bring_the_last_good_state_back(train: Train):
    start: list[torch.Tensor] = []
    before: list[torch.Tensor] = []

    def begin(trainer: DetectionTrainer) -> None:
        start.append(next(unwrap(trainer.model).parameters()).detach().clone())

    def watch(trainer: DetectionTrainer) -> None:
        before.append(next(unwrap(trainer.model).parameters()).detach().clone())

    hit = at((1, 1), (2, 0), (2, 1))
    trainer = train(
        poison_input(hit), callbacks={"on_train_batch_start": watch, "on_train_start": begin},
        nan_patience=3,
        rollback_lr_factor=0.1,
    )  # fmt: skip
    ended_well(trainer, 4)
    assert kinds(trainer) == ["skipped_step"] * 3 + ["rollback"]
    # Steps 4 to 6 moved nothing; then the last state that later steps had confirmed came back, that of the start.
    assert torch.equal(before[3], before[5])
    assert torch.equal(before[6], start[0])
    assert trainer.optimizer.param_groups[0]["initial_lr"] == pytest.approx(0.0001)
    assert trainer.guard.lr_factor == pytest.approx(0.1)


def test_a_blown_up_network_comes_back(train: Train):
    """Finite, but useless: the loss tells."""

    def blow_up(trainer: DetectionTrainer) -> None:
        if at((12, 1))(trainer):
            with torch.no_grad():
                for parameter in unwrap(trainer.model).model[-1].parameters():
                    parameter.mul_(30.0)

    trainer = train(callbacks={"on_train_batch_end": blow_up}, epochs=16, save=False)
    assert trainer.epoch == 15
    assert kinds(trainer).count("rollback") == 1
    assert all(value.isfinite().all() for value in unwrap(trainer.model).state_dict().values())
    history = trainer.history["train/cls_loss"]
    assert history[-1] < 2 * history[10]


def test_a_run_that_nothing_helps_stops_with_its_last_good_weights(train: Train, caplog: pytest.LogCaptureFixture):
    trainer = train(
        poison_input(lambda trainer: trainer.epoch >= 1), epochs=50, nan_patience=2,
        max_rollbacks=2,
    )  # fmt: skip
    assert kinds(trainer).count("rollback") == 2
    assert kinds(trainer)[-1] == "stopped"
    ended_well(trainer, trainer.epoch + 1)
    assert trainer.epoch < 10
    message = next(record for record in caplog.records if record.levelname == "ERROR").getMessage()
    assert "max_rollbacks=2" in message
    assert "last good weights" in message


def test_a_resumed_run_counts_on(train: Train):
    trainer = train(poison_input(at((0, 0), (0, 1), (1, 0))), epochs=2, nan_patience=3)
    assert trainer.guard.rollbacks == 1
    rates = [group["initial_lr"] for group in trainer.optimizer.param_groups]
    resumed = DetectionTrainer(overrides={"resume": str(trainer.last), "epochs": 3})
    resumed.train()
    assert (resumed.guard.rollbacks, resumed.guard.lr_factor) == (1, 0.5)
    assert [group["initial_lr"] for group in resumed.optimizer.param_groups] == rates


def test_a_rollback_takes_a_safer_number_format(train: Train):
    hit = at((0, 0), (0, 1), (1, 0))
    trainer = train(poison_input(hit), epochs=3, nan_patience=3, amp="bf16")
    assert kinds(trainer)[-1] == "rollback"
    assert trainer.guard.events[-1]["evidence"]["precision"] == "fp32"
    assert (trainer.precision.name, trainer.args.amp) == ("fp32", "fp32")
    saved = load_checkpoint(trainer.last)
    assert (saved["args"]["amp"], saved["origins"]["amp"]) == ("fp32", "auto")
    ended_well(trainer, 3)


@pytest.mark.parametrize(
    ("loss", "scale", "expected"),
    [(3.0, 1024.0, True), (3.0, 1.0, False), (math.nan, 1024.0, False)],
    ids=["overflow while the scale comes down", "nothing left to halve", "the loss itself"],
)
def test_fp16_may_look_for_its_scale(loss: float, scale: float, expected: bool):
    scaler = SimpleNamespace(is_enabled=lambda: True, get_scale=lambda: scale)
    verdict = Verdict(finite=False, loss=loss, grad_norm=math.inf, limit=math.inf)
    trainer: Any = SimpleNamespace(scaler=scaler)
    assert Recovery._is_the_scalers_search(trainer, verdict) is expected


# ------------------------------------------------------------------ the batch can be looked at


def dump_of(trainer: DetectionTrainer) -> Path:
    (path,) = sorted((trainer.save_dir / "dumps").iterdir())
    return path


def test_a_bad_input_is_dumped_and_replayed(train: Train, capsys: pytest.CaptureFixture[str]):
    trainer = train(poison_input(at((1, 1))))
    path = dump_of(trainer)
    assert path.name == "epoch2-batch2.pt"
    assert trainer.guard.events[0]["evidence"]["dump"] == str(path)
    found = replay(path)
    names = found.dump["files"]
    assert len(names) == 4
    assert found.bad_images == [names[1]]
    paths = trainer.train_loader.dataset.index.paths
    assert found.dump["seeds"] == [[0, 1, list(paths).index(name)] for name in names]
    assert found.bad_weights == []
    assert found.passes[0].first_layer == "model.0.conv (Conv2d)"
    assert found.passes[0].bad_items
    assert main(["doctor", "replay", str(path)]) == 0
    out = capsys.readouterr().out
    assert "first output that is not finite: model.0.conv" in out
    assert "The images are not finite" in out


def test_a_bad_weight_is_named_by_the_replay(train: Train):
    def spoil(trainer: DetectionTrainer) -> None:
        if at((1, 0))(trainer):
            with torch.no_grad():
                unwrap(trainer.model).model[1].conv.weight[0, 0, 0, 0] = math.nan

    trainer = train(callbacks={"on_train_batch_end": spoil})
    found = replay(dump_of(trainer))
    assert found.bad_weights == ["model.1.conv.weight"]
    assert found.passes[0].first_layer == "model.1.conv (Conv2d)"
    assert "The weights were bad before this batch came" in found.cause


def test_a_callback_is_no_fault_of_the_batch(train: Train):
    def spoil(trainer: DetectionTrainer) -> None:
        if at((1, 0))(trainer):
            trainer.loss = trainer.loss * math.nan

    found = replay(dump_of(train(callbacks={"on_before_backward": spoil})))
    assert found.passes[0].finite
    assert "callback" in found.cause


@pytest.mark.parametrize("settings", [{}, {"freeze": 2}], ids=["all layers", "with held statistics"])
def test_a_replayed_batch_has_the_loss_of_the_run(settings: dict[str, Any], train: Train):
    """A spike of the labels' making: the pass is repeated to the last digits, in each layer's mode."""
    seen: list[float] = []

    def spoil(trainer: DetectionTrainer) -> None:
        if at((1, 0))(trainer):
            seen.append(float(trainer.loss.detach()) / 4)
            next(p for p in unwrap(trainer.model).parameters() if p.requires_grad).register_hook(lambda g: g * math.nan)

    callbacks = {"on_before_backward": spoil}
    found = replay(dump_of(train(callbacks=callbacks, dump_batches=1, nan_patience=0, amp=False, **settings)))
    assert found.passes[0].loss == pytest.approx(seen[0], rel=1e-5)


def test_a_format_that_this_device_lacks_is_not_acquitted(train: Train):
    def spoil(trainer: DetectionTrainer) -> None:
        if at((1, 0))(trainer):
            trainer.loss = trainer.loss * math.nan

    content = load_checkpoint(dump_of(train(callbacks={"on_before_backward": spoil})))
    found = replay({**content, "precision": "fp16"}, device="cpu")  # as from a run on a GPU
    assert [one.precision for one in found.passes] == ["fp32"]
    assert "the run computed in fp16" in found.cause
    assert "callback" not in found.cause


def test_a_replay_keeps_layers_in_fp32_as_the_run_did(train: Train):
    trainer = train(poison_input(at((1, 1))), amp="bf16", fp16_skip_layers=["regex:."])
    outputs: list[torch.dtype] = []

    def listen(module: Any, inputs: Any, output: Any) -> None:
        outputs.append(inputs[0].dtype)

    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: listen(module, inputs, output) if isinstance(module, torch.nn.Conv2d) else None
    )
    try:
        assert replay(dump_of(trainer)).passes[0].precision == "bf16"
    finally:
        handle.remove()
    assert set(outputs) == {torch.float32}


def test_the_number_of_dumps_is_bounded(train: Train):
    trainer = train(poison_input(lambda trainer: True), dump_batches=2, nan_patience=0, val=False)
    assert len(list((trainer.save_dir / "dumps").iterdir())) == 2


def test_other_files_are_no_dumps(train: Train):
    trainer = train(epochs=1)
    assert not (trainer.save_dir / "dumps").exists()
    with pytest.raises(CheckpointError, match="no dump of a bad batch"):
        replay(trainer.last)


def test_a_folder_is_answered_with_its_dumps(train: Train, capsys: pytest.CaptureFixture[str]):
    trainer = train(poison_input(at((1, 1))))
    for folder in (trainer.save_dir, trainer.save_dir / "dumps"):
        assert main(["doctor", "replay", str(folder)]) == 2
        assert f"Give one of its files: {dump_of(trainer)}" in capsys.readouterr().err
    assert main(["doctor", "replay", str(trainer.wdir)]) == 2
    assert "in dumps/ of a run folder" in capsys.readouterr().err
    assert main(["doctor", "replay", str(dump_of(trainer)), "device=cpu"]) == 0
    assert main(["doctor", "replay", str(dump_of(trainer)), "epochs=3"]) == 2
    assert "knows only device=, not epochs" in capsys.readouterr().err
