"""What scripts do beyond importing: overriding every documented method the obvious way, and reading attributes."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline import compat

# Written as people write it, from the documented methods alone.
SCRIPT = """
from copy import copy

import torch
from torch import nn

from ultralytics import YOLO
from ultralytics.data import build_dataloader, build_yolo_dataset
from ultralytics.models import yolo
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG, LOGGER, RANK, colorstr
from ultralytics.utils.loss import E2ELoss, v8DetectionLoss
from ultralytics.utils.torch_utils import unwrap_model

calls = []


class MyLoss(v8DetectionLoss):
    def __init__(self, model, tal_topk=10, tal_topk2=None):
        super().__init__(model, tal_topk=tal_topk, tal_topk2=tal_topk2)
        weight = torch.ones(self.nc, device=self.device)
        self.bce = nn.BCEWithLogitsLoss(reduction="none", pos_weight=weight)


class MyModel(DetectionModel):
    def init_criterion(self):
        calls.append("init_criterion")
        return E2ELoss(self, loss_fn=MyLoss) if getattr(self, "end2end", False) else MyLoss(self)


class MyTrainer(yolo.detect.DetectionTrainer):
    def __init__(self, cfg=DEFAULT_CFG, overrides=None, _callbacks=None):
        overrides = dict(overrides or {})
        overrides["task"] = "detect"
        super().__init__(cfg, overrides, _callbacks)
        self.add_callback("on_train_batch_end", lambda trainer: calls.append("batch_end"))

    def get_dataset(self):
        calls.append("get_dataset")
        return super().get_dataset()

    def get_model(self, cfg=None, weights=None, verbose=True):
        calls.append("get_model")
        model = MyModel(cfg, nc=self.data["nc"], ch=self.data["channels"], verbose=verbose and RANK == -1)
        if weights:
            model.load(weights)
        return model

    def set_model_attributes(self):
        calls.append("set_model_attributes")
        assert next(self.model.parameters()).device == self.device
        self.model.nc = self.data["nc"]
        self.model.names = self.data["names"]
        self.model.args = self.args

    def build_dataset(self, img_path, mode="train", batch=None):
        calls.append("build_dataset")
        gs = max(int(unwrap_model(self.model).stride.max()), 32)
        return build_yolo_dataset(self.args, img_path, batch, self.data, mode=mode, rect=mode == "val", stride=gs)

    def get_dataloader(self, dataset_path, batch_size=16, rank=0, mode="train"):
        calls.append("get_dataloader")
        dataset = self.build_dataset(dataset_path, mode, batch_size)
        return build_dataloader(dataset, batch_size, self.args.workers, shuffle=mode == "train", rank=rank)

    def get_validator(self):
        calls.append("get_validator")
        self.loss_names = "box_loss", "cls_loss", "dfl_loss"
        return yolo.detect.DetectionValidator(
            self.test_loader, save_dir=self.save_dir, args=copy(self.args), _callbacks=self.callbacks
        )

    def build_optimizer(self, model, name="auto", lr=0.001, momentum=0.9, decay=1e-5, iterations=1e5):
        calls.append("build_optimizer")
        optimizer = super().build_optimizer(model, name, lr, momentum, decay, iterations)
        LOGGER.info(f"{colorstr('optimizer:')} {type(optimizer).__name__}")
        return optimizer

    def preprocess_batch(self, batch):
        calls.append("preprocess_batch")
        for key, value in batch.items():
            if isinstance(value, torch.Tensor):
                batch[key] = value.to(self.device, non_blocking=True)
        batch["img"] = batch["img"].float() / 255
        return batch

    def optimizer_step(self):
        calls.append("optimizer_step")
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(self.model)

    def label_loss_items(self, loss_items=None, prefix="train"):
        calls.append("label_loss_items")
        return super().label_loss_items(loss_items, prefix)

    def progress_string(self):
        calls.append("progress_string")
        return super().progress_string() + "my columns"

    def validate(self):
        calls.append("validate")
        metrics, fitness = super().validate()
        fitness = metrics["metrics/mAP50(B)"]
        if self.best_fitness is None or fitness > self.best_fitness:
            self.best_fitness = fitness
        return metrics, fitness

    def save_model(self):
        calls.append("save_model")
        return super().save_model()

    def save_metrics(self, metrics):
        calls.append("save_metrics")
        super().save_metrics(metrics)

    def plot_training_samples(self, batch, ni):
        calls.append("plot_training_samples")

    def plot_training_labels(self):
        calls.append("plot_training_labels")

    def plot_metrics(self):
        calls.append("plot_metrics")

    def final_eval(self):
        calls.append("final_eval")
        super().final_eval()


def run(data, folder, **settings):
    model = YOLO("yolo26n.yaml")
    model.train(trainer=MyTrainer, data=data, project=folder, epochs=2, imgsz=64, batch=4, device="cpu", **settings)
    return model
"""
METHODS = [
    "get_dataset", "get_model", "set_model_attributes", "build_dataset", "get_dataloader", "get_validator",
    "build_optimizer", "init_criterion", "preprocess_batch", "optimizer_step", "label_loss_items", "progress_string",
    "validate", "save_model", "save_metrics", "plot_training_samples", "plot_training_labels", "plot_metrics",
    "final_eval",
]  # fmt: skip


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    compat.enable()
    scope: dict[str, Any] = {"__name__": "a_script"}
    exec(compile(textwrap.dedent(SCRIPT), "a_script.py", "exec", dont_inherit=True), scope)
    return scope


@pytest.fixture(scope="module")
def trained(script: dict[str, Any], tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model that the script's trainer trained."""
    return script["run"](str(tiny_data), str(tmp_path_factory.mktemp("runs")), lr0=0.002, optimizer="AdamW")


def test_every_override_is_called_and_its_settings_arrive(script: dict[str, Any], trained: Any):
    calls = script["calls"]
    assert not [method for method in METHODS if method not in calls]
    assert calls.count("preprocess_batch") == calls.count("batch_end") == 4  # 2 epochs of 8 images, 4 a batch
    assert calls.count("validate") == 2
    assert type(trained.trainer).__name__ == "MyTrainer"
    assert (trained.trainer.args.epochs, trained.trainer.args.lr0) == (2, 0.002)
    assert type(trained.trainer.optimizer).__name__ == "AdamW"
    assert type(trained.trainer.model).__name__ == "MyModel"
    assert trained.trainer.best.is_file()


def test_weights_from_a_file_reach_a_get_model_of_the_script(script: dict[str, Any], trained: Any, tmp_path: Path):
    """Without the facade: the trainer reads the file and hands what it holds to `get_model`."""
    start = {"model": str(trained.trainer.last), "data": trained.trainer.args.data, "project": str(tmp_path)}
    small = {"epochs": 1, "imgsz": 64, "batch": 4, "device": "cpu", "plots": False, "lr0": 0.0, "optimizer": "SGD"}
    trainer = script["MyTrainer"](overrides={**start, **small, "val": False})
    weights = trainer._weights(start["model"])
    model = trainer.get_model(cfg=weights.yaml, weights=weights)
    name = "model.0.conv.weight"
    assert model.state_dict()[name].equal(weights.state[name])


TRAINER = """
    args device save_dir wdir last best save_period batch_size epochs start_epoch world_size ddp callbacks plots
    validator metrics model data csv train_loader test_loader optimizer scheduler lf accumulate amp scaler ema stopper
    stop loss_names stride freeze_layer_names best_fitness fitness epoch_time epoch_time_start train_time_start plot_idx
    epoch tloss loss loss_items lr history
    _setup_train _do_train _setup_scheduler _setup_ddp _build_train_pipeline _get_warmup_iterations set_class_weights
    get_class_counts compute_class_weights auto_batch _model_train on_plot read_results_csv _close_dataloader_mosaic
    _clear_memory _get_memory check_resume resume_training _load_checkpoint_state _handle_nan_recovery add_callback
    set_callback run_callbacks
"""
VALIDATOR = """
    args save_dir dataloader device training data names nc seen confusion_matrix iouv jdict speed loss metrics batch_i
    plots image_metrics preprocess postprocess init_metrics update_metrics finalize_metrics get_stats print_results
    get_desc plot_val_samples plot_predictions pred_to_json eval_json add_callback run_callbacks
"""
METRICS = """
    names box speed save_dir confusion_matrix nt_per_class nt_per_image stats keys mean_results class_result maps
    fitness ap_class_index results_dict curves curves_results summary to_df to_csv to_json
"""
BOX = """
    p r f1 all_ap ap_class_index nc image_metrics p_curve r_curve f1_curve px prec_values ap50 ap mp mr map50 map75 map
    maps mean_results class_result fitness update
"""
RESULTS = """
    orig_img orig_shape path names boxes masks keypoints obb probs speed save_dir cpu numpy cuda to new update plot
    show save save_txt save_crop verbose summary to_df to_csv to_json
"""
BOXES = "xyxy xywh xyxyn xywhn conf cls id is_track data shape orig_shape cpu numpy to cuda"
YOLO = """
    train val predict load save info fuse reset_weights eval add_callback clear_callback reset_callbacks names task
    device model trainer predictor metrics overrides ckpt ckpt_path cfg callbacks
"""


@pytest.mark.parametrize(
    ("of", "names"),
    [
        (lambda model: model, YOLO),
        (lambda model: model.trainer, TRAINER),
        (lambda model: model.trainer.validator, VALIDATOR),
        (lambda model: model.metrics, METRICS),
        (lambda model: model.metrics.box, BOX),
        (lambda model: model.predict(np.zeros((64, 64, 3), np.uint8), device="cpu")[0], RESULTS),
        (lambda model: model.predict(np.zeros((64, 64, 3), np.uint8), device="cpu")[0].boxes, BOXES),
    ],
    ids=["YOLO", "trainer", "validator", "metrics", "metrics.box", "results", "boxes"],
)
def test_attributes_that_scripts_read(trained: Any, of: Any, names: str):
    subject = of(trained)
    assert not [name for name in names.split() if not hasattr(subject, name)]


def test_what_is_not_here_yet_says_so(trained: Any):
    for method in ("track", "export", "benchmark", "embed"):
        with pytest.raises(AttributeError, match=f"'{method}' exists in Ultralytics, not in sightline yet"):
            getattr(trained, method)
