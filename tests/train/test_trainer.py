"""The loop: what it does in which order, what it keeps, and what it refuses."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sightline.artifacts.checkpoint import load_checkpoint, save_checkpoint
from sightline.errors import MissingFileError, SettingValueError, SightlineError, TrainingError, UsageError
from sightline.train.detect import DetectionTrainer

TINY = str(Path(__file__).parents[1] / "tiny.yaml")
FAST = {
    "imgsz": 64,
    "batch": 4,
    "epochs": 2,
    "workers": 0,
    "plots": False,
    "amp": False,
    "verbose": False,
    "device": "cpu",
}


def make(data: Path, folder: Path, trainer: type = DetectionTrainer, **settings: Any) -> DetectionTrainer:
    """A trainer of a tiny network, unless `model` names another."""
    overrides = {"model": TINY, "data": str(data), "project": str(folder), "name": "run", **FAST, **settings}
    return trainer(overrides=overrides)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)["model"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_leaves_its_files(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, epochs=3, save_period=2)
    trainer.train()
    found = {path.relative_to(trainer.save_dir).as_posix() for path in trainer.save_dir.rglob("*") if path.is_file()}
    assert {
        "args.yaml",
        "results.csv",
        "weights/best.pt",
        "weights/last.pt",
        "weights/epoch0.pt",
        "weights/epoch2.pt",
    } <= found
    rows = list(csv.DictReader((trainer.save_dir / "results.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert list(rows[0])[:9] == [
        "epoch", "time", "train/box_loss", "train/cls_loss", "train/dfl_loss",
        "metrics/precision(B)", "metrics/recall(B)", "metrics/mAP50(B)", "metrics/mAP50-95(B)",
    ]  # fmt: skip
    assert list(rows[0])[9:12] == ["val/box_loss", "val/cls_loss", "val/dfl_loss"]
    assert list(rows[0])[12].startswith("lr/pg0")
    saved = yaml.safe_load((trainer.save_dir / "args.yaml").read_text())
    assert saved["epochs"] == 3
    assert saved["optimizer"] == trainer.args.optimizer != "auto"  # what really ran
    assert len(trainer.history["train/box_loss"]) == 3


def test_two_runs_of_one_seed_are_equal_and_another_seed_differs(tiny_data: Path, tmp_path: Path):
    runs = [make(tiny_data, tmp_path / str(i), seed=seed) for i, seed in enumerate((0, 0, 1))]
    for run in runs:
        run.train()
    assert same(weights(runs[0].last), weights(runs[1].last))
    assert not same(weights(runs[0].last), weights(runs[2].last))


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("nbs", [4, 12])  # 12: at the end of an epoch one gradient of three waits for its step
def test_a_resumed_run_equals_one_that_never_stopped(tiny_data: Path, tmp_path: Path, nbs: int):
    settings = {"epochs": 4, "optimizer": "SGD", "nbs": nbs, "warmup_epochs": 1.0, "close_mosaic": 1}
    whole = make(tiny_data, tmp_path / "whole", **settings)
    whole.train()

    def stop(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise Interrupted

    cut = make(tiny_data, tmp_path / "cut", **settings)
    cut.add_callback("on_fit_epoch_end", stop)
    with pytest.raises(Interrupted):
        cut.train()
    resumed = DetectionTrainer(overrides={"resume": str(cut.last)})
    assert resumed.start_epoch == 0  # nothing is read into the run before it starts
    resumed.train()
    assert resumed.save_dir == cut.save_dir
    assert same(weights(whole.last), weights(resumed.last))
    a, b = (list(csv.DictReader((run.save_dir / "results.csv").open())) for run in (whole, resumed))
    for row in a + b:
        del row["time"]
    assert a == b


def test_a_finished_run_does_not_resume_but_can_be_extended(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, epochs=1)
    trainer.train()
    with pytest.raises(SettingValueError, match="finished"):
        DetectionTrainer(overrides={"resume": str(trainer.last)})
    longer = DetectionTrainer(overrides={"resume": str(trainer.last), "epochs": 2})
    longer.train()
    assert longer.epoch == 1
    with pytest.raises(SightlineError, match="weights only"):
        DetectionTrainer(overrides={"resume": str(trainer.best)})
    with pytest.raises(MissingFileError, match="no such file"):
        DetectionTrainer(overrides={"resume": str(tmp_path / "none.pt")})


class Counting(DetectionTrainer):
    steps = 0

    def optimizer_step(self) -> None:
        super().optimizer_step()
        self.steps += 1


def test_accumulated_gradients_are_stepped_at_the_end(tiny_data: Path, tmp_path: Path):
    # 2 batches an epoch, 3 epochs, 5 batches a step: steps after batch 1 (the first always), 6 (the remainder of five)
    trainer = make(tiny_data, tmp_path, Counting, epochs=3, optimizer="SGD", nbs=20, warmup_epochs=0)
    trainer.train()
    assert trainer.steps == 2
    assert trainer.last_opt_step == trainer.iteration == 5


class StopsEarly(Counting):
    """Fitness falls from the first epoch on."""

    def validate(self) -> Any:
        return {}, 0.5 - 0.1 * self.epoch


@pytest.mark.parametrize("how", ["patience", "stop", "time"])
def test_accumulated_gradients_are_stepped_however_a_run_ends(tiny_data: Path, tmp_path: Path, how: str):
    # 100 batches a step, which this run never gathers
    end = {"patience": {"patience": 1}, "stop": {}, "time": {"time": 1e-9}}[how]
    trainer = make(tiny_data, tmp_path, StopsEarly, epochs=50, optimizer="SGD", nbs=400, warmup_epochs=0, **end)
    if how == "stop":
        trainer.add_callback("on_train_batch_end", lambda t: setattr(t, "stop", t.epoch == 1))
    trainer.train()
    assert trainer.epoch < 10
    assert trainer.steps >= 1
    assert trainer.last_opt_step == trainer.iteration
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_no_epoch_begins_that_has_no_time(tiny_data: Path, tmp_path: Path):
    class SlowToValidate(DetectionTrainer):
        def validate(self) -> Any:
            self.train_time_start -= 3600  # an hour has passed
            return {}, 0.5

    trainer = make(tiny_data, tmp_path, SlowToValidate, epochs=50, time=0.5)
    trainer.train()
    assert trainer.epoch == 0


def test_a_resumed_run_with_another_batch_goes_on_stepping(tiny_data: Path, tmp_path: Path):
    def stop(trainer: Any) -> None:
        if trainer.epoch == 2:
            raise Interrupted

    cut = make(tiny_data, tmp_path, epochs=5, batch=1, optimizer="SGD", nbs=4)
    cut.add_callback("on_fit_epoch_end", stop)
    with pytest.raises(Interrupted):
        cut.train()
    resumed = Counting(overrides={"resume": str(cut.last), "batch": 4})
    resumed.train()
    assert resumed.steps == 2 * len(resumed.train_loader)  # two epochs, and every batch of 4 makes a step


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optimizer": "SGD"}, ["optimizer=SGD cannot change", "it has optimizer=MuSGD"]),
        ({"layer_decay": 0.9, "single_cls": True}, ["single_cls=True", "layer_decay=0.9", "cannot change", "=False"]),
    ],
)
def test_a_resumed_run_refuses_what_would_not_be_in_force(tiny_data: Path, tmp_path: Path, change: dict, words: list):
    trainer = make(tiny_data, tmp_path, epochs=1)
    trainer.train()
    with pytest.raises(SettingValueError) as caught:
        DetectionTrainer(overrides={"resume": str(trainer.last), "epochs": 2, **change})
    assert all(word in str(caught.value) for word in [*words, "model=", str(trainer.last)])
    same_again = {"resume": str(trainer.last), "epochs": 2, "optimizer": "auto", "lr0": trainer.args.lr0}
    assert DetectionTrainer(overrides=same_again).args.optimizer == "MuSGD"


def test_a_resumed_run_needs_the_classes_it_knows(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, epochs=1)
    trainer.train()
    other = yaml.safe_load(tiny_data.read_text())
    other["names"] = {**dict(enumerate(trainer.data["names"].values())), len(trainer.data["names"]): "one more"}
    path = tiny_data.with_name("one more.yaml")
    path.write_text(yaml.safe_dump(other))
    with pytest.raises(SettingValueError, match=r"the run knows . classes, but data=.*one more.yaml has"):
        DetectionTrainer(overrides={"resume": str(trainer.last), "epochs": 2, "data": str(path)}).train()


@pytest.mark.parametrize("scores", [(math.nan, 0.5, 0.6), (-5.0, -4.0, -3.0)])
def test_best_is_the_best_also_after_nan_and_below_zero(tiny_data: Path, tmp_path: Path, scores: tuple):
    class Scored(DetectionTrainer):
        def validate(self) -> Any:
            return {"m": None}, scores[self.epoch]

    trainer = make(tiny_data, tmp_path, Scored, epochs=3)
    trainer.train()
    best = load_checkpoint(trainer.best)
    assert (best["epoch"], best["fitness"]) == (2, scores[-1])
    assert best["metrics"]["m"] is None


@pytest.mark.parametrize("returned", [0.5, {"a": 1, "b": 2}, ({}, "good"), (0.5, {})])
def test_what_validate_must_return_is_said(tiny_data: Path, tmp_path: Path, returned: Any):
    class Wrong(DetectionTrainer):
        def validate(self) -> Any:
            return returned

    with pytest.raises(TrainingError, match=r"validate\(\) returned"):
        make(tiny_data, tmp_path, Wrong).train()


def test_a_weights_file_cannot_make_the_trainer_build_a_giant(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, model="yolo26n.yaml", epochs=1)
    trainer.train()
    content = load_checkpoint(trainer.best)
    content["yaml"]["scales"]["n"] = [0.5, 16.0, 65536]  # depth, width, most channels
    save_checkpoint(tmp_path / "giant.pt", content)
    with pytest.raises(SightlineError, match="far larger than the weights"):
        make(tiny_data, tmp_path, model=str(tmp_path / "giant.pt")).train()


def test_eight_images_train(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, epochs=2)
    before: dict[str, torch.Tensor] = {}
    trainer.add_callback(
        "on_train_start", lambda t: before.update({n: v.clone() for n, v in t.model.state_dict().items()})
    )
    trainer.train()
    moved = [name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])]
    assert len(moved) > 100


class PoisonOnce(DetectionTrainer):
    """The third batch of the run is not finite, from the image on."""

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess_batch(batch)
        if self.iteration == 2:
            batch["img"] = batch["img"] * math.nan
        return batch


@pytest.mark.parametrize("optimizer", ["SGD", "MuSGD", "AdamW", "RMSProp"])
def test_a_step_that_is_not_finite_moves_neither_weights_nor_averages(tiny_data: Path, tmp_path: Path, optimizer: str):
    trainer = make(tiny_data, tmp_path, PoisonOnce, epochs=3, optimizer=optimizer, nbs=4, val=False)
    trainer.train()
    for model in (trainer.model, trainer.ema.ema):
        assert all(value.isfinite().all() for value in model.state_dict().values() if value.is_floating_point())


def test_only_unset_settings_are_filled_by_auto(tiny_data: Path, tmp_path: Path):
    free = make(tiny_data, tmp_path, epochs=1)
    free.train()
    assert free.args.origin("lr0") == "auto"
    held = make(tiny_data, tmp_path, epochs=1, lr0=0.0123, momentum=0.5)
    held.train()
    assert held.args.lr0 == 0.0123
    assert held.args.momentum == 0.5
    assert held.optimizer.param_groups[-1]["initial_lr"] == pytest.approx(0.0123)


class Scripted(DetectionTrainer):
    """Validation that returns what a list says; None stands for a method that forgets to return."""

    script: tuple[Any, ...] = ()

    def validate(self) -> Any:
        value = self.script[self.epoch]
        self.best_fitness = 99.0  # a user's own bookkeeping must not keep best.pt from being written
        return None if value is None else ({"metrics/mine": value}, value)


@pytest.mark.parametrize(
    ("script", "best_epoch"),
    [((0.3, 0.5, 0.5), 1), ((0.5, 0.5, 0.4), 0), ((None, None, None), 0), ((None, 0.1, 0.0), 1), ((0.0, 0.0, 0.0), 0)],
)
def test_best_is_the_earliest_of_equals_and_always_there(tiny_data: Path, tmp_path: Path, script: Any, best_epoch: int):
    trainer = make(tiny_data, tmp_path, type("Mine", (Scripted,), {"script": script}), epochs=3)
    trainer.final_eval = lambda: None  # type: ignore[method-assign]
    trainer.train()
    assert load_checkpoint(trainer.best)["epoch"] == best_epoch


def test_without_validation_the_last_epoch_is_still_validated(tiny_data: Path, tmp_path: Path):
    epochs: list[int] = []
    trainer = make(tiny_data, tmp_path, epochs=3, val=False)
    trainer.add_callback("on_val_start", lambda validator: epochs.append(trainer.epoch))
    trainer.train()
    assert epochs[0] == 2


def test_validation_at_an_interval(tiny_data: Path, tmp_path: Path):
    epochs: list[int] = []
    trainer = make(tiny_data, tmp_path, epochs=5, val_interval=2)
    trainer.final_eval = lambda: None  # type: ignore[method-assign]
    trainer.add_callback("on_val_start", lambda validator: epochs.append(trainer.epoch))
    trainer.train()
    assert epochs == [1, 3, 4]


def test_early_stopping(tiny_data: Path, tmp_path: Path):
    script = (0.5, 0.4, 0.3, 0.2, 0.1)
    trainer = make(tiny_data, tmp_path, type("Mine", (Scripted,), {"script": script}), epochs=5, patience=2)
    trainer.final_eval = lambda: None  # type: ignore[method-assign]
    trainer.train()
    assert trainer.epoch == 2


def test_frozen_layers_do_not_move_and_the_user_s_own_freezing_is_kept(tiny_data: Path, tmp_path: Path):
    class Mine(DetectionTrainer):
        def set_model_attributes(self) -> None:
            super().set_model_attributes()
            self.model.model[3].conv.weight.requires_grad = False
            self.before = {name: value.clone() for name, value in self.model.state_dict().items()}

    trainer = make(tiny_data, tmp_path, Mine, freeze=2, epochs=1)
    trainer.train()
    after = trainer.model.state_dict()
    still = {name for name, value in after.items() if torch.equal(value, trainer.before[name])}
    assert all(
        name in still for name in after if name.startswith(("model.0.", "model.1.")) and "num_batches" not in name
    )
    assert "model.3.conv.weight" in still
    assert "model.2.cv1.conv.weight" not in still


def test_freezing_what_is_not_there_is_an_error(tiny_data: Path, tmp_path: Path):
    with pytest.raises(SettingValueError, match="Layers are 0–5"):
        make(tiny_data, tmp_path, freeze=["5.cv9"]).train()
    assert not any(tmp_path.iterdir())  # nothing half-written


def test_a_time_budget_ends_the_run(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, epochs=1000, time=4 / 3600)
    trainer.train()
    assert 0 < trainer.epoch < 999
    assert trainer.args.epochs < 1000


def test_stop_in_a_callback_ends_the_run_with_everything_saved(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, epochs=5)
    trainer.add_callback("on_train_batch_end", lambda t: setattr(t, "stop", t.epoch == 1))
    trainer.train()
    assert trainer.epoch == 1
    assert load_checkpoint(trainer.last)["epoch"] == 1


def test_a_size_that_is_no_multiple_of_the_stride_is_rounded_up(tiny_data: Path, tmp_path: Path):
    shapes: list[Any] = []

    class Mine(DetectionTrainer):
        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            shapes.append(batch["img"].shape[-2:])
            return super().preprocess_batch(batch)

    make(tiny_data, tmp_path, Mine, imgsz=50, epochs=1).train()
    assert set(shapes) == {(64, 64)}


def test_multi_scale_changes_the_size_of_batches(tiny_data: Path, tmp_path: Path):
    sizes: set[int] = set()

    class Mine(DetectionTrainer):
        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            batch = super().preprocess_batch(batch)
            sizes.add(batch["img"].shape[-1])
            return batch

    make(tiny_data, tmp_path, Mine, model="yolo26n.yaml", multi_scale=0.5, epochs=6, val=False).train()
    assert len(sizes) > 1
    assert all(size % 32 == 0 for size in sizes)


def test_an_empty_batch_of_targets_trains(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, epochs=1)
    trainer.preprocess_batch = lambda batch, original=trainer.preprocess_batch: original(_without_targets(batch))  # type: ignore
    trainer.train()
    assert trainer.tloss["box_loss"] == 0


def _without_targets(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "cls": batch["cls"][:0], "bboxes": batch["bboxes"][:0], "batch_idx": batch["batch_idx"][:0]}


def test_missing_model_or_data_is_a_usage_error(tiny_data: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="data="):
        DetectionTrainer(overrides={"model": "yolo26n.yaml"})
    with pytest.raises(UsageError, match="model="):
        make(tiny_data, tmp_path, model=None).train()


def test_teardown_comes_after_an_error_too(tiny_data: Path, tmp_path: Path):
    events: list[str] = []
    trainer = make(tiny_data, tmp_path)

    def broken(trainer: Any) -> None:
        raise Interrupted

    trainer.add_callback("on_train_batch_start", broken)
    trainer.add_callback("teardown", lambda t: events.append("teardown"))
    with pytest.raises(Interrupted):
        trainer.train()
    assert events == ["teardown"]


def test_a_fine_tuned_run_resumes_without_its_first_weights(tiny_data: Path, tmp_path: Path):
    first = make(tiny_data, tmp_path / "first", epochs=1, val=False)
    first.train()
    weights_file = tmp_path / "first.pt"
    weights_file.write_bytes(first.best.read_bytes())
    second = make(tiny_data, tmp_path / "second", model=str(weights_file), epochs=1, val=False)
    second.train()
    weights_file.unlink()
    third = DetectionTrainer(overrides={"resume": str(second.last), "epochs": 2})
    third.train()
    assert third.epoch == 1


def test_class_weights_lift_rare_classes_and_reach_the_loss(tiny_data: Path, tmp_path: Path):
    class Mine(DetectionTrainer):
        def get_class_counts(self) -> torch.Tensor:
            return torch.tensor([4.0, 1.0])

    trainer = make(tiny_data, tmp_path, Mine, cls_pw=1.0, epochs=1, val=False)
    trainer.train()
    assert trainer.model.criterion.one2many.class_weights.flatten().tolist() == pytest.approx([0.4, 1.6])


# training.md, sections 14 and 15: what scripts read and override
METHODS = (
    "train _setup_train _do_train _setup_scheduler _build_train_pipeline _get_warmup_iterations get_dataset "
    "setup_model get_model set_model_attributes set_class_weights get_class_counts compute_class_weights "
    "build_dataset get_dataloader get_validator build_optimizer auto_batch preprocess_batch optimizer_step "
    "_model_train validate label_loss_items progress_string save_metrics save_model plot_training_samples "
    "plot_training_labels plot_metrics on_plot final_eval read_results_csv _close_dataloader_mosaic "
    "_clear_memory _get_memory check_resume resume_training add_callback set_callback run_callbacks "
    "_setup_ddp _load_checkpoint_state _handle_nan_recovery"
)
ATTRIBUTES = (
    "args device save_dir wdir last best csv save_period batch_size epochs start_epoch world_size ddp "
    "callbacks plots validator metrics resume model data train_loader test_loader optimizer scheduler lf "
    "accumulate amp scaler ema stopper stop loss_names stride freeze_layer_names best_fitness fitness "
    "epoch_time epoch_time_start train_time_start plot_idx epoch tloss loss_items loss lr history"
)


def test_documented_methods_and_attributes_have_their_names(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path)
    assert [name for name in METHODS.split() if not callable(getattr(trainer, name, None))] == []
    assert [name for name in ATTRIBUTES.split() if not hasattr(trainer, name)] == []
