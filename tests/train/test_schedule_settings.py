"""The settings of the schedule in real, tiny runs: in force, shown, kept over a resume, changed while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sightline.errors import SettingValueError
from sightline.train.detect import DetectionTrainer
from sightline.train.lr_shapes import LrShape
from train.test_trainer import make

# Their curves are compared one by one in test_schedule.py; here the whole trainer is in between.
KINDS = (
    "cosine",
    "warm_restarts",
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("linear", "onecycle", "constant", "step")),
)


class Watched(DetectionTrainer):
    """Does everything but the network's work, and notes learning rate and steps of every batch."""

    def optimizer_step(self) -> None:
        self.optimizer.zero_grad()
        self.steps.append(self.iteration)

    def final_eval(self) -> None:
        pass

    def validate(self) -> Any:
        return None, None


# Three small maps and a head: nothing here asks how well it learns.
SMALL = """
nc: 2
reg_max: 1
end2end: true
scales: {n: {depth: 1.0, width: 1.0, max_channels: 16}}
backbone:
  - {block: Conv, channels: 8, kernel: 3, stride: 2}
  - {block: Conv, channels: 8, kernel: 3, stride: 2}
  - {block: Conv, channels: 8, kernel: 3, stride: 2}
  - {block: Conv, channels: 16, kernel: 3, stride: 2}
  - {block: Conv, channels: 16, kernel: 3, stride: 2}
head:
  - {block: Detect, from: [2, 3, 4]}
"""


def small(data: Path, folder: Path, trainer: type = DetectionTrainer, **settings: Any) -> Any:
    folder.mkdir(exist_ok=True)
    (folder / "small.yaml").write_text(SMALL)
    return make(data, folder, trainer, model=str(folder / "small.yaml"), **settings)


def watched(data: Path, folder: Path, **settings: Any) -> Watched:
    trainer = small(data, folder, Watched, **{"optimizer": "SGD", "momentum": 0.9, "val": False, **settings})
    trainer.steps, trainer.rates = [], []
    trainer.add_callback("on_before_backward", lambda t: t.rates.append(t.optimizer.param_groups[0]["lr"]))
    return trainer


def test_everything_is_in_force_and_said(tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    trainer = watched(
        tiny_data, tmp_path, epochs=4, batch=2, accumulate=3, lr0=0.008, lr_scale="sqrt", lr_base_batch=8,
        warmup_steps=2, warmup_start_factor=0.5, scheduler="cosine", scheduler_step="iteration", restart_epoch=2,
        lr_min=0.001, weight_decay=0.01,
    )  # fmt: skip
    with caplog.at_level("INFO", logger="sightline"):
        trainer.train()
    assert trainer.steps == [2, 5, 8, 11, 14, 15]  # sixteen batches: five full steps and what is left
    assert trainer.rates[0] == pytest.approx(0.002)  # 0.008 · √(2/8), half of it at first
    assert trainer.rates[8] == pytest.approx(0.002)  # the restart, at half
    assert trainer.rates[12] == pytest.approx(0.01 * 0.004 + (0.5 - 0.01) * 0.004 / 2)
    assert min(trainer.rates[7:]) == pytest.approx(0.001)
    assert trainer.optimizer.param_groups[0]["weight_decay"] == pytest.approx(0.01 * 6 / 64)
    for line in (
        "accumulate: 2 images × 3 batches = 6 images behind each step, from the first on",
        "lr_scale: lr0 0.008 × 0.5 = 0.004 for 2 images at a time, sqrt from 8",
        "scheduler: cosine to 0.01 of the initial rate, restarts after 2 epochs at ×0.5; set at each batch",
        "warmup_steps: 2 steps of 3 batches = 1.5 epochs",
    ):
        assert line in caplog.text


def test_onecycle_needs_no_warm_up_but_takes_one(tiny_data: Path, tmp_path: Path):
    trainer = watched(tiny_data, tmp_path, epochs=2, scheduler="onecycle", lr0=0.01)
    trainer.train()
    assert trainer.args.origin("warmup_epochs") == "auto"
    assert trainer.rates[0] == pytest.approx(0.01 / 25)
    asked = watched(tiny_data, tmp_path, epochs=2, scheduler="onecycle", lr0=0.01, warmup_epochs=1)
    asked.train()
    assert asked.rates[0] == 0


def test_what_has_no_effect_is_named(tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    watched(
        tiny_data, tmp_path, epochs=2, scheduler="constant", lrf=0.5, restart_epoch=300, lr_base_batch=32,
        step_epochs=1, warmup_steps=100, nbs=4, diagnosis=False,
    ).train()  # fmt: skip
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    for start in (
        "lrf=0.5 has no effect: scheduler=constant stays at lr0",
        "restart_epoch=300 has no effect: the run of 2 epochs has no restart",
        "lr_base_batch=32 has no effect: lr_scale is none",
        "step_epochs=1 has no effect",
        "warmup_steps=100 are 100 batches, but the run has only 4",
    ):
        assert any(line.startswith(start) for line in warnings), start
    assert len(warnings) == 5


def test_a_floor_above_the_start_is_refused(tiny_data: Path, tmp_path: Path):
    with pytest.raises(SettingValueError, match=r"lr_min=0\.02 .* lr0=0\.01"):
        watched(tiny_data, tmp_path, lr0=0.01, lr_min=0.02).train()


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_extended_with_every_scheduler(
    tiny_data: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
):
    """After two of two epochs the run goes on to five, at the rates of a run of five."""
    settings = {"scheduler": kind, "accumulate": 3, "warmup_epochs": 1, "lr0": 0.01, "scheduler_step": "iteration"}
    watched(tiny_data, tmp_path, epochs=2, **settings).train()
    longer = Watched(overrides={"resume": str(tmp_path / "run" / "weights" / "last.pt"), "epochs": 5})
    longer.steps, longer.rates = [], []
    longer.add_callback("on_before_backward", lambda t: t.rates.append(t.optimizer.param_groups[0]["lr"]))
    with caplog.at_level("INFO", logger="sightline"):
        longer.train()
    assert caplog.text.count("epochs=5, before 2: the learning rate goes on") == (kind != "constant")
    assert longer.rates == pytest.approx([0.01 * LrShape(kind).factor(batch / 2, 5) for batch in range(4, 10)])
    assert longer.steps == [6, 9]  # the short run ended with a step on what was left


def test_another_way_of_saying_it_on_resume_takes_the_place_of_the_old_one(tiny_data: Path, tmp_path: Path):
    watched(tiny_data, tmp_path, epochs=1, nbs=32, cos_lr=True).train()
    last = tmp_path / "run" / "weights" / "last.pt"
    longer = Watched(overrides={"resume": str(last), "epochs": 2, "accumulate": 2, "scheduler": "step"})
    longer.steps = []
    longer.train()
    assert (longer.args.accumulate, longer.args.cos_lr, longer.args.scheduler) == (2, False, "step")
    assert longer.accumulate == 2


def test_another_batch_on_resume_has_the_rates_and_the_decay_of_that_batch(
    tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    before = {"lr_scale": "linear", "lr_base_batch": 4, "accumulate": 2, "lr0": 0.01, "scheduler": "constant"}
    watched(tiny_data, tmp_path, epochs=1, batch=4, weight_decay=0.064, **before).train()
    last = tmp_path / "run" / "weights" / "last.pt"
    now = {"epochs": 2, "batch": 2, "accumulate": 3, "lr_base_batch": 8}
    longer = Watched(overrides={"resume": str(last), **now})
    longer.steps = []
    with caplog.at_level("INFO", logger="sightline"):
        longer.train()
    assert longer.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 2 / 8)
    assert longer.optimizer.param_groups[0]["weight_decay"] == pytest.approx(0.064 * 6 / 64)
    assert longer.accumulate == 3
    assert "lr_base_batch=8 (was 4)" in caplog.text


def test_changes_while_it_runs_are_in_force(tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    trainer = watched(
        tiny_data, tmp_path, epochs=4, lr0=0.01, lrf=0.0, warmup_epochs=0, accumulate=1, weight_decay=0.064
    )
    decays = []

    def change(t: Any) -> None:
        if t.iteration == 2:
            t.args.lr_min = 0.009
            t.args.accumulate = 2
        if t.iteration == 3:
            t.args.nbs = 8
        if t.iteration == 4:
            t.scheduler = "constant"  # the setting; an object would be a scheduler of torch's kind
            t.args.lr_scale, t.args.lr_base_batch = "linear", 2
        decays.append(t.optimizer.param_groups[0]["weight_decay"])

    trainer.add_callback("on_train_batch_start", change)
    with caplog.at_level("INFO", logger="sightline"):
        trainer.train()
    assert trainer.rates == pytest.approx([0.01, 0.01, 0.009, 0.009, 0.02, 0.02, 0.02, 0.02])  # not 0.0075, not 0.005
    assert trainer.steps == [0, 1, 3, 5, 7]
    assert "lr_min=0.009 from epoch 2, batch 1 on; it was 0.0" in caplog.text
    assert "nbs=8 has no effect: accumulate=2 decides" in caplog.text
