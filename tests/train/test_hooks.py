"""Every documented method and event comes at its moment, in its order, with everything in place that it may use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sightline.artifacts.checkpoint import load_checkpoint
from sightline.data.sampler import SampleKey
from sightline.errors import TrainingError
from sightline.train.detect import DetectionTrainer
from sightline.train.trainer import BaseTrainer
from sightline.validate.detect import DetectionValidator
from train.test_trainer import make

# docs/customising.md lists them.
METHODS = (
    "train check_resume fill_defaults get_dataset setup_model get_model set_model_attributes build_dataset "
    "get_dataloader "
    "fill_automatic build_optimizer get_validator metric_keys set_class_weights get_class_counts compute_class_weights "
    "resume_training write_args plot_training_labels preprocess_batch optimizer_step plot_training_samples validate "
    "label_loss_items save_metrics save_model final_eval plot_metrics progress_string"
)
ONE_STEP = (
    "on_train_batch_start preprocess_batch() on_before_backward on_before_optimizer_step optimizer_step() "
    "optimizer_step on_params_update on_before_zero_grad on_after_optimizer_step plot_training_samples() "
    "on_train_batch_end"
)
# A run of one epoch of two batches, each with a step; methods have brackets.
ORDER = (
    "check_resume() fill_defaults() get_dataset() train() on_pretrain_routine_start setup_model() get_model() "
    "set_model_attributes() get_dataloader() build_dataset() get_dataloader() build_dataset() fill_automatic() "
    "build_optimizer() get_validator() "
    "set_class_weights() get_class_counts() compute_class_weights() metric_keys() label_loss_items() "
    "resume_training() write_args() plot_training_labels() on_pretrain_routine_end "
    f"on_train_start on_train_epoch_start progress_string() {ONE_STEP} {ONE_STEP} on_train_epoch_end "
    "validate() label_loss_items() label_loss_items() save_metrics() save_model() on_model_save on_fit_epoch_end "
    "final_eval() on_fit_epoch_end plot_metrics() on_train_end teardown"
).split()


def _on_its_device(trainer: Any) -> bool:
    return all(parameter.device == trainer.device for parameter in trainer.model.parameters())


# What is there when a method is called, and what is not yet.
MOMENTS: dict[str, Callable[[Any], bool]] = {
    "get_dataset": lambda t: t.args.data is not None and t.device.type == "cpu",
    "setup_model": lambda t: t.model == "yolo26n.yaml" and t.save_dir.is_dir(),
    "get_model": lambda t: t.data["nc"] == 2,
    "set_model_attributes": lambda t: _on_its_device(t) and t.train_loader is None and t.ema is None,
    "get_dataloader": lambda t: t.model.names == {0: "red", 1: "blue"} and t.stride == 32 and t.optimizer is None,
    "fill_defaults": lambda t: t.args.data is not None and "device" not in vars(t),
    "fill_automatic": lambda t: len(t.train_loader) == 2 and t.optimizer is None,
    "build_optimizer": lambda t: len(t.train_loader) == 2 and len(t.test_loader) == 1 and t.optimizer is None,
    "get_validator": lambda t: t.optimizer is not None and t.scheduler is not None,
    "set_class_weights": lambda t: t.validator is not None and t.ema is None,
    "resume_training": lambda t: t.ema is not None and t.metrics["metrics/mAP50(B)"] == 0,
    "preprocess_batch": lambda t: t.model.training,
    "optimizer_step": lambda t: any(p.grad is not None for p in t.model.parameters()),
    "validate": lambda t: set(t.lr) == {"lr/pg0", "lr/pg1", "lr/pg2"} and t.tloss is not None,
    "save_metrics": lambda t: t.fitness is not None and t.epoch_time > 0,
    "save_model": lambda t: t.stop and t.best_fitness == t.fitness and "val/box_loss" in t.metrics,
    "final_eval": lambda t: t.best.exists() and t.last.exists(),
    "plot_metrics": lambda t: t.csv.exists(),
}

# Attributes from the first event on at which they have a value.
READABLE = {
    "on_pretrain_routine_start": "args device data save_dir wdir last best csv save_period batch_size epochs epoch "
    "iteration start_epoch world_size callbacks scaler amp stop stop_training stopper resume plots history in_force "
    "freeze_layer_names plot_idx",
    "on_pretrain_routine_end": "model optimizer scheduler lf accumulate ema validator train_loader test_loader metrics "
    "lr stride loss_names",
    "on_train_start": "train_time_start",
    "on_train_epoch_start": "epoch_time_start",
    "on_before_backward": "loss loss_items tloss",
    "on_after_optimizer_step": "grad_norm last_opt_step",
    "on_model_save": "fitness best_fitness epoch_time",
}


class Run:
    """One short run of a subclass that overrides every documented method by calling super."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.calls: list[str] = []
        self.wrong_moments: list[str] = []
        self.unreadable: list[str] = []
        self.known: list[str] = []
        run = self

        class Recorder(DetectionTrainer):
            def run_callbacks(self, event: str) -> None:
                run.calls.append(event)
                run.read(self, event)
                super().run_callbacks(event)

        def recording(name: str) -> Any:
            def method(self: Any, *given: Any, **named: Any) -> Any:
                run.calls.append(f"{name}()")
                if name in MOMENTS and not MOMENTS[name](self):
                    run.wrong_moments.append(name)
                return getattr(super(Recorder, self), name)(*given, **named)

            return method

        for name in METHODS.split():
            setattr(Recorder, name, recording(name))
        settings = {"epochs": 1, "plots": True, "cls_pw": 0.5, "nbs": 4, "optimizer": "SGD", "verbose": True}
        self.trainer = make(data, folder, Recorder, model="yolo26n.yaml", **settings)
        # The validator's pictures are not what is tested here, and take longer than all the rest.
        self.trainer.add_callback("on_train_start", lambda t: setattr(t.validator.args, "plots", False))
        self.trainer.train()

    def read(self, trainer: Any, event: str) -> None:
        self.known += READABLE.get(event, "").split()
        empty = [name for name in self.known if getattr(trainer, name) is None]
        self.unreadable += [f"{name} at {event}" for name in empty]


@pytest.fixture(scope="module")
def run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tiny_data, tmp_path_factory.mktemp("hooks"))


def test_methods_and_events_come_in_their_order(run: Run):
    assert run.calls == ORDER


def test_each_method_finds_what_it_may_use(run: Run):
    assert set(MOMENTS) <= set(METHODS.split())
    assert run.wrong_moments == []


def test_attributes_are_readable_from_their_event_on(run: Run):
    assert set(READABLE) <= set(run.calls)
    assert run.unreadable == []


def test_no_public_method_is_forgotten_here():
    """A method that is added to the trainers belongs in this list, or among those that nobody overrides."""
    public = {
        name
        for kind in (DetectionTrainer, BaseTrainer)
        for name, value in vars(kind).items()
        if callable(value) and not name.startswith("_")
    }
    not_called_by_the_loop = {"run_callbacks", "on_plot", "read_results_csv", "auto_batch", "remaining_seconds"}
    assert public == set(METHODS.split()) | not_called_by_the_loop


# ------------------------------------------------------------------ what an override returns is what is used


def test_overrides_decide(tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    class MyValidator(DetectionValidator):
        def get_stats(self) -> dict[str, float]:
            return {**super().get_stats(), "metrics/mine": 0.25}

    class Mine(DetectionTrainer):
        def get_validator(self) -> Any:
            super().get_validator()
            return MyValidator(
                self.test_loader, save_dir=self.save_dir, args=self.args.copy(), _callbacks=self.callbacks
            )

        def build_dataset(self, img_path: Any, mode: str = "train", batch: int | None = None) -> Any:
            return (
                super().build_dataset(self.data["val"], "train", batch)
                if mode == "train"
                else super().build_dataset(img_path, mode, batch)
            )

        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            batch = super().preprocess_batch(batch)
            self.brightest = float(batch["img"].max())
            batch["img"] = batch["img"] * 0
            return batch

        def label_loss_items(self, loss_items: Any = None, prefix: str = "train") -> Any:
            if loss_items is None:
                return [f"{prefix}/all"]
            return {f"{prefix}/all": float(sum(loss_items.values()))}

        def progress_string(self) -> str:
            return "what the numbers mean"

        def final_eval(self) -> None:
            self.save_model("kept/by me.pt")

    trainer = make(tiny_data, tmp_path, Mine, epochs=2, verbose=True)
    with caplog.at_level("INFO", logger="sightline"):
        trainer.train()
    assert len(trainer.train_loader.dataset) == 4  # the validation images
    assert 0 < trainer.brightest <= 1
    assert trainer.metrics["metrics/mine"] == 0.25
    assert trainer.history["metrics/mine"] == [0.25, 0.25]
    assert len(trainer.history["train/all"]) == len(trainer.history["val/all"]) == 2
    assert "train/box_loss" not in trainer.csv.read_text().splitlines()[0]
    assert [record.getMessage() for record in caplog.records].count("what the numbers mean") == 2
    kept = load_checkpoint(trainer.save_dir / "kept" / "by me.pt")  # a relative path is taken from the run folder
    assert kept["epoch"] == 1


@pytest.mark.parametrize("method", ["get_model", "build_optimizer", "get_validator", "preprocess_batch"])
def test_a_forgotten_return_is_said(method: str, tiny_data: Path, tmp_path: Path):
    class Mine(DetectionTrainer):
        pass

    def forgets(self: Any, *given: Any, **named: Any) -> None:
        getattr(super(Mine, self), method)(*given, **named)

    forgets.__qualname__ = f"Mine.{method}"
    setattr(Mine, method, forgets)
    with pytest.raises(TrainingError, match=rf"Mine\.{method}\(\) returned nothing"):
        make(tiny_data, tmp_path, Mine, epochs=1).train()


class Measures(DetectionTrainer):
    def final_eval(self) -> None:
        """Nothing: results.png is drawn all the same."""

    def validate(self) -> Any:
        return {"tensor": torch.tensor(0.5), "numpy": np.float32(0.25), "none": None}, torch.tensor(0.75)


def test_metrics_are_numbers_whatever_they_were(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, Measures, epochs=1, plots=True)
    trainer.train()
    assert trainer.metrics == {"tensor": 0.5, "numpy": 0.25, "none": None}
    assert {type(value) for value in trainer.metrics.values()} == {float, type(None)}
    assert type(trainer.fitness) is float
    assert (trainer.save_dir / "results.png").exists()


def test_a_metric_that_is_no_number_is_said(tiny_data: Path, tmp_path: Path):
    class Mine(DetectionTrainer):
        def validate(self) -> Any:
            return {"mine": [0.1, 0.2]}, 0.5

    with pytest.raises(TrainingError, match=r"\[0.1, 0.2\] as the metric mine"):
        make(tiny_data, tmp_path, Mine, epochs=1).train()


def test_the_length_of_the_warm_up_may_be_overridden(tiny_data: Path, tmp_path: Path):
    rates: list[float] = []

    class Mine(DetectionTrainer):
        def _get_warmup_iterations(self, nb: int) -> int:
            return 2 * nb

    settings = {"epochs": 3, "warmup_epochs": 1.0, "lr0": 0.01, "lrf": 1.0, "optimizer": "SGD", "val": False}
    trainer = make(tiny_data, tmp_path, Mine, **settings)
    trainer.add_callback("on_train_batch_end", lambda t: rates.append(t.optimizer.param_groups[0]["lr"]))
    trainer.add_callback("on_train_epoch_start", lambda t: setattr(t, "momentum", 0.5))  # the plan is made anew
    trainer.train()
    assert rates == pytest.approx([0, 0.0025, 0.005, 0.0075, 0.01, 0.01])


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_loader_of_torch_brings_new_samples_every_epoch_and_ends_mosaic(
    tiny_data: Path, tmp_path: Path, workers: int
):
    seen: dict[int, torch.Tensor] = {}

    class Mine(DetectionTrainer):
        def get_dataloader(self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
            dataset = self.build_dataset(dataset_path, mode, batch_size)
            return DataLoader(dataset, batch_size, num_workers=workers, collate_fn=dataset.collate_fn)

        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            if self.batch_index == 0:
                seen[self.epoch] = batch["img"].clone()
            return super().preprocess_batch(batch)

    off = dict.fromkeys(("translate", "scale", "fliplr", "hsv_h", "hsv_s", "hsv_v"), 0.0)
    trainer = make(tiny_data, tmp_path, Mine, epochs=4, close_mosaic=2, val=False, **off)
    trainer.train()
    assert not torch.equal(seen[0], seen[1])  # two mosaics
    assert torch.equal(seen[2], seen[3])  # plain images
    plain = trainer.train_loader.dataset[SampleKey(3, 0, mixing=False)]["img"]
    assert torch.equal(seen[3][0], plain)


def test_what_a_loader_of_torch_cannot_do_is_said(tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    class Mine(DetectionTrainer):
        def get_dataloader(self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
            dataset = self.build_dataset(dataset_path, mode, batch_size)
            options = {"num_workers": 1, "persistent_workers": True} if mode == "train" else {}
            return DataLoader(dataset, batch_size, collate_fn=dataset.collate_fn, **options)

    trainer = make(tiny_data, tmp_path, Mine, epochs=1, val=False)
    with caplog.at_level("WARNING", logger="sightline"):
        trainer.train()
    assert caplog.text.count("persistent_workers=True") == 1


def test_what_is_no_loader_is_said(tiny_data: Path, tmp_path: Path):
    class Mine(DetectionTrainer):
        def get_dataloader(self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
            return iter(super().get_dataloader(dataset_path, batch_size, rank, mode))

    with pytest.raises(TrainingError, match="generator, which has no __len__ and no dataset"):
        make(tiny_data, tmp_path, Mine).train()
