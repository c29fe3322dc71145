"""What a user assigns while a run is going on is in force, recorded, or named as too late."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml

from sightline.errors import SettingTypeError, SettingValueError
from sightline.train.detect import DetectionTrainer
from train.test_trainer import make


def test_a_setting_s_name_on_the_trainer_is_the_setting(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path)
    trainer.warmup_momentum = 0.6
    assert trainer.args.warmup_momentum == trainer.warmup_momentum == 0.6
    assert trainer.args.origin("warmup_momentum") == "code"
    assert "warmup_momentum" not in vars(trainer)
    with pytest.raises(SettingTypeError, match="warmup_momentum"):
        trainer.warmup_momentum = "high"
    with pytest.raises(SettingValueError, match="patience"):
        trainer.patience = -3
    trainer.my_own = object()  # anything else is the user's
    assert "my_own" in vars(trainer)
    with pytest.raises(AttributeError, match="no attribute 'never_set'"):
        _ = trainer.never_set


def test_changes_during_a_run_are_in_force_from_the_next_batch_and_recorded(
    tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    seen: dict[str, Any] = {}

    class Mine(DetectionTrainer):
        def optimizer_step(self) -> None:
            if self.iteration == 1:
                self.args.lr0 = 0.002
                self.weight_decay = 0.5
                self.patience = 7
                self.ema_decay = 0.5
                self.args.box = 99.0
                self.imgsz = 96  # too late: the loaders are there
            super().optimizer_step()
            if self.iteration == 2:
                seen["lr"] = {group["lr"] for group in self.optimizer.param_groups}
                seen["decay"] = {group["weight_decay"] for group in self.optimizer.param_groups}

    trainer = make(tiny_data, tmp_path, Mine, epochs=2, optimizer="SGD", lr0=0.01, lrf=1.0, warmup_epochs=0, nbs=4)
    with caplog.at_level("INFO", logger="sightline"):
        trainer.train()
    assert list(seen["lr"]) == pytest.approx([0.002])
    assert sorted(seen["decay"]) == pytest.approx([0.0, 0.5 * 4 / 4])
    assert trainer.stopper.patience == 7
    assert trainer.ema.final_decay == 0.5
    assert trainer.model.criterion.one2many.hyp.box == 99.0
    assert yaml.safe_load((trainer.save_dir / "args.yaml").read_text())["box"] == 99.0
    assert "box=99.0 from epoch 2, batch 1 on; it was 7.5" in caplog.text
    late = next(record for record in caplog.records if "no effect" in record.getMessage())
    assert late.levelname == "WARNING"
    assert "imgsz=96" in late.getMessage()
    assert "box" not in late.getMessage()


def test_amp_is_read_and_assigned_by_its_name(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, epochs=1)
    names: list[str] = []
    trainer.add_callback("on_pretrain_routine_start", lambda t: setattr(t, "amp", "bf16"))
    trainer.add_callback("on_train_batch_end", lambda t: names.append(t.precision.name))
    trainer.train()
    assert trainer.amp is True
    assert set(names) == {"bf16"}


def test_stop_training_ends_after_the_epoch(tiny_data: Path, tmp_path: Path):
    batches: list[int] = []
    trainer = make(tiny_data, tmp_path, epochs=9, nbs=400, warmup_epochs=0, optimizer="SGD")

    def stop(t: Any) -> None:
        batches.append(t.iteration)
        t.stop_training = t.epoch == 1 or t.stop_training

    trainer.add_callback("on_train_batch_end", stop)
    trainer.train()
    assert batches == [0, 1, 2, 3]  # the second epoch to its end
    assert trainer.last.exists()
    assert trainer.last_opt_step == 3  # what had been gathered is stepped
    assert len(trainer.history["metrics/mAP50(B)"]) == 2


def test_a_replaced_optimizer_scheduler_scaler_and_ema_are_the_ones_used(tiny_data: Path, tmp_path: Path):
    class Averages:
        def __init__(self, model: torch.nn.Module) -> None:
            self.ema, self.updates = model, 0

        def update(self, model: torch.nn.Module) -> None:
            self.updates += 1

        def state_dict(self) -> dict[str, Any]:
            return {}

    class Scaler:
        calls: ClassVar[list[str]] = []

        def scale(self, loss: torch.Tensor) -> torch.Tensor:
            return loss

        def unscale_(self, optimizer: Any) -> None:
            self.calls.append("unscale")

        def step(self, optimizer: Any) -> None:
            self.calls.append("step")
            optimizer.step()

        def update(self) -> None:
            self.calls.append("update")

        def state_dict(self) -> dict[str, Any]:
            return {}

    rates, events = [], []

    def replace(trainer: Any) -> None:
        trainer.optimizer = torch.optim.Adagrad(trainer.model.parameters(), lr=0.5)
        trainer.scheduler = torch.optim.lr_scheduler.StepLR(trainer.optimizer, step_size=1, gamma=0.1)
        trainer.scaler = Scaler()
        trainer.ema = Averages(trainer.model)

    trainer = make(tiny_data, tmp_path, epochs=3, optimizer="SGD", nbs=4, warmup_epochs=1)
    trainer.add_callback("on_train_start", replace)
    trainer.add_callback("on_train_batch_end", lambda t: rates.append(t.optimizer.param_groups[0]["lr"]))
    trainer.add_callback("optimizer_step", lambda t: events.append(type(t.optimizer).__name__))
    trainer.train()
    assert rates == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005])
    assert events == ["Adagrad"] * 6
    assert trainer.ema.updates == 6
    assert Scaler.calls == ["unscale", "step", "update"] * 6
    assert isinstance(trainer.scheduler, torch.optim.lr_scheduler.StepLR)
    assert trainer.history["lr/pg0"] == pytest.approx([0.5, 0.05, 0.005])


def test_a_scheduler_that_wants_a_metric_gets_the_fitness(tiny_data: Path, tmp_path: Path):
    class Flat(DetectionTrainer):
        def validate(self) -> Any:
            return {}, 0.5

    trainer = make(tiny_data, tmp_path, Flat, epochs=4, optimizer="SGD")

    def replace(t: Any) -> None:
        t.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(t.optimizer, mode="max", factor=0.1, patience=0)

    trainer.add_callback("on_train_start", replace)
    first = []
    trainer.add_callback("on_train_start", lambda t: first.append(t.optimizer.param_groups[0]["lr"]))
    trainer.final_eval = lambda: None  # type: ignore[method-assign]
    trainer.train()
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(first[0] * 0.01)


def test_events_of_a_step_fire_also_around_a_step_of_the_user_s(tiny_data: Path, tmp_path: Path):
    order: list[str] = []

    class Mine(DetectionTrainer):
        def optimizer_step(self) -> None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=1.0)
            order.append("clipped")
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            order.append("zeroed")
            if self.ema:
                self.ema.update(self.model)

    trainer = make(tiny_data, tmp_path, Mine, epochs=1, batch=8, nbs=8)
    for event in (
        "on_train_batch_start", "on_before_backward", "on_before_optimizer_step", "optimizer_step",
        "on_params_update", "on_before_zero_grad", "on_after_optimizer_step", "on_train_batch_end",
    ):  # fmt: skip
        trainer.add_callback(event, lambda t, event=event: order.append(event))
    gradients: dict[str, bool] = {}

    def note(event: str) -> Any:
        def look(t: Any) -> None:
            gradients[event] = any(p.grad is not None for p in t.model.parameters())

        return look

    for event in ("on_before_backward", "on_before_optimizer_step", "on_before_zero_grad", "on_after_optimizer_step"):
        trainer.add_callback(event, note(event))
    trainer.train()
    assert order == [
        "on_train_batch_start", "on_before_backward", "on_before_optimizer_step", "clipped", "optimizer_step",
        "on_params_update", "on_before_zero_grad", "zeroed", "on_after_optimizer_step", "on_train_batch_end",
    ]  # fmt: skip
    assert gradients == {
        "on_before_backward": False,
        "on_before_optimizer_step": True,
        "on_before_zero_grad": True,
        "on_after_optimizer_step": False,
    }
