"""The zoo of the diagnosis: set-ups that are broken in one way each, and healthy ones that look odd.

A case says what it changes: settings, files of a copy of the data set, or what callbacks and a trainer of one's own
do. `expects` are the rules of which one must speak within the first third of the run; a healthy case expects none.
"""

from __future__ import annotations

import copy
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sightline import DetectionTrainer

BASE = "base"  # weights that zoo.py trains on the data set first; otherwise cases start from scratch


@dataclass(frozen=True)
class Case:
    """One set-up. `prepare` gets the folder of its own copy of the data set and a generator."""

    name: str
    expects: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[Path, random.Random], None] | None = None
    callbacks: dict[str, Callable[[Any], None]] = field(default_factory=dict)
    trainer: type[DetectionTrainer] = DetectionTrainer
    images: int = 32  # for training

    @property
    def healthy(self) -> bool:
        return not self.expects


def label_files(data: Path, *splits: str) -> list[Path]:
    return [path for split in splits or ("train", "val") for path in sorted((data / "labels" / split).glob("*.txt"))]


def rewrite(path: Path, change: Callable[[list[float]], list[float]]) -> None:
    rows = [[float(word) for word in line.split()] for line in path.read_text().splitlines() if line.strip()]
    lines = (" ".join([str(int(row[0])), *(f"{value:.6f}" for value in row[1:])]) for row in map(change, rows))
    path.write_text("\n".join(lines))


# ------------------------------------------------------------------ what can be wrong with files


def empty_labels(data: Path, rng: random.Random) -> None:
    for path in label_files(data, "train"):
        path.write_text("")


def flipped_classes(data: Path, rng: random.Random) -> None:
    """Six of ten labels get any class."""
    for path in label_files(data):
        rewrite(path, lambda row: [float(rng.randrange(3)), *row[1:]] if rng.random() < 0.6 else row)


def sloppy_boxes(data: Path, rng: random.Random) -> None:
    """Sides and centres are off by up to 0.35 of the side."""

    def off(row: list[float]) -> list[float]:
        number, x, y, w, h = row
        x, y = x + rng.uniform(-0.35, 0.35) * w, y + rng.uniform(-0.35, 0.35) * h
        w, h = w * rng.uniform(0.65, 1.35), h * rng.uniform(0.65, 1.35)
        w, h = min(w, 2 * x, 2 - 2 * x), min(h, 2 * y, 2 - 2 * y)
        return [number, min(max(x, 0.01), 0.99), min(max(y, 0.01), 0.99), max(w, 0.01), max(h, 0.01)]

    for path in label_files(data):
        rewrite(path, off)


def same_images(data: Path, rng: random.Random) -> None:
    for part in ("images", "labels"):
        shutil.rmtree(data / part / "val")
        shutil.copytree(data / part / "train", data / part / "val")


def mostly_background(data: Path, rng: random.Random) -> None:
    """Eight of ten training images show nothing: their objects are painted over with the image's mean."""
    import cv2

    for path in label_files(data, "train"):
        if rng.random() < 0.8:
            image_file = next((data / "images" / "train").glob(f"{path.stem}.*"))
            image = cv2.imread(str(image_file))
            image[:] = image.mean(axis=(0, 1)).astype("uint8")
            cv2.imwrite(str(image_file), image)
            path.write_text("")


# ------------------------------------------------------------------ what can be wrong with code


def freeze_all(trainer: Any) -> None:
    for parameter in trainer.network.parameters():
        parameter.requires_grad_(False)


def optimizer_of_a_copy(trainer: Any) -> None:
    trainer.optimizer = torch.optim.SGD(copy.deepcopy(trainer.network).parameters(), lr=0.01)


def no_gradient_in_the_head(trainer: Any) -> None:
    for parameter in trainer.network.model[-1].parameters():
        parameter.register_hook(torch.zeros_like)


def silence_the_head(trainer: Any) -> None:
    if trainer.epoch == 2:
        for network in (trainer.network, trainer.ema.ema):
            for name, parameter in network.model[-1].named_parameters():
                if "cv3" in name and name.endswith(".2.bias"):
                    parameter.data.fill_(-30.0)


def overflow_half(trainer: Any) -> None:
    if trainer.batch_index % 2:
        trainer.loss = trainer.loss * float("inf")


def spike(trainer: Any) -> None:
    if trainer.batch_index == 3:
        trainer.loss = trainer.loss * 1000


def hold_statistics(trainer: Any) -> None:
    """Eight images have other statistics than the data set: running means would drift, and the loss with them."""
    for module in trainer.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0


def stepped_down(trainer: Any) -> None:
    trainer.scheduler = torch.optim.lr_scheduler.StepLR(trainer.optimizer, step_size=1, gamma=0.1)


class LosesLabels(DetectionTrainer):
    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess_batch(batch)
        return {**batch, "cls": batch["cls"][:0], "bboxes": batch["bboxes"][:0], "batch_idx": batch["batch_idx"][:0]}


class BoxesInPixels(DetectionTrainer):
    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess_batch(batch)
        return {**batch, "bboxes": batch["bboxes"] * 640}


class OneClassOnly(DetectionTrainer):
    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess_batch(batch)
        return {**batch, "cls": torch.full_like(batch["cls"], float(self.data["nc"] - 1))}


class SlowDisk(DetectionTrainer):
    def build_dataset(self, img_path: Any, mode: str = "train", batch: int | None = None) -> Any:
        dataset = super().build_dataset(img_path, mode, batch)
        if mode == "train":
            kind = type(dataset)
            dataset.__class__ = type("Slow", (kind,), {"__getitem__": _slowly(kind.__getitem__)})
        return dataset


def _slowly(get: Callable[..., Any]) -> Callable[..., Any]:
    def wait(self: Any, item: Any) -> Any:
        time.sleep(0.6)
        return get(self, item)

    return wait


# ------------------------------------------------------------------ the animals

SCRATCH = {"model": "yolo26n.yaml"}
PLAIN = {"mosaic": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "scale": 0.0, "translate": 0.0, "fliplr": 0.0}
STILL = {**PLAIN, "optimizer": "AdamW", "lr0": 1e-9, "warmup_epochs": 0, "batch": 8}

BROKEN = (
    Case("learning rate far too low", ("lr_too_low",), {**SCRATCH, "optimizer": "SGD", "lr0": 1e-7}),
    Case("learning rate too low, AdamW", ("lr_too_low",), {**SCRATCH, "optimizer": "AdamW", "lr0": 1e-8}),
    Case(
        "learning rate far too high",
        ("lr_too_high", "not_finite"),
        {**SCRATCH, "optimizer": "SGD", "lr0": 1.0, "clip_grad": 0},
    ),
    Case("fine-tuning with a learning rate too high", ("lr_too_high",), {"optimizer": "AdamW", "lr0": 0.2}),
    Case("empty label files", ("labels_missing",), prepare=empty_labels),
    Case("labels lost on the way to the loss", ("labels_missing",), trainer=LosesLabels),
    Case("boxes in pixels", ("no_positives",), trainer=BoxesInPixels),
    Case("every parameter frozen", ("everything_frozen",), callbacks={"on_train_start": freeze_all}),
    Case("optimizer holds a copy", ("everything_frozen",), callbacks={"on_pretrain_routine_end": optimizer_of_a_copy}),
    Case("no gradient in the head", ("dead_head",), callbacks={"on_train_start": no_gradient_in_the_head}),
    Case("head falls silent", ("dead_head",), callbacks={"on_train_epoch_end": silence_the_head}),
    Case("every object is the last class", ("class_collapse",), {"lr0": 1e-3, "epochs": 30}, trainer=OneClassOnly),
    Case("class labels are wrong", ("label_noise",), prepare=flipped_classes),
    Case("sloppy boxes", ("box_noise",), prepare=sloppy_boxes),
    Case("validation images are training images", ("duplicate_images",), prepare=same_images),
    Case(
        "over-fitting",
        ("overfitting",),
        {**PLAIN, "epochs": 75, "optimizer": "AdamW", "lr0": 2e-3, "warmup_epochs": 5},
        images=8,
    ),
    Case("schedule ends early", ("schedule_ended",), callbacks={"on_pretrain_routine_end": stepped_down}),
    Case("average too slow", ("ema_not_following",), {"ema_decay": 0.9999, "ema_tau": 1}),
    Case("overflow", ("not_finite",), callbacks={"on_before_backward": overflow_half}),
    Case(
        "gradient explodes",
        ("exploding_gradient",),
        {"box": 7500.0, "cls": 500.0, "dfl": 1500.0, "clip_grad": 0, "optimizer": "AdamW", "lr0": 5e-4},
    ),
    Case("gradient spikes", ("gradient_spikes",), callbacks={"on_before_backward": spike}),
    Case("loader too slow", ("loader_bound",), trainer=SlowDisk, images=16),
    Case(
        "plateau",
        ("val_plateau",),
        {**STILL, "epochs": 156},
        callbacks={"on_train_start": hold_statistics},
        images=8,
    ),
    Case("no gain in mAP", ("map_stagnation",), {**STILL, "epochs": 330}, images=8),
)

HEALTHY = (
    Case("defaults"),
    Case("three epochs", settings={"epochs": 3}),
    Case("fine-tune that starts near its best", settings={"optimizer": "AdamW", "lr0": 5e-5, "epochs": 15}),
    Case("background-heavy data", prepare=mostly_background),
    Case("200 epochs, past the plateau", settings={"epochs": 200, "batch": 16, "optimizer": "AdamW", "lr0": 2e-4}),
    Case("from scratch, SGD", settings={**SCRATCH, "optimizer": "SGD", "lr0": 0.01}),
    Case("from scratch, AdamW", settings={**SCRATCH, "optimizer": "AdamW", "lr0": 1e-3}),
    Case("from scratch, automatic", settings={**SCRATCH, "batch": 16}),
    Case("frozen backbone", settings={"freeze": 10}),
    Case(
        "one batch an epoch, accumulated", settings={"batch": 8, "nbs": 32, "optimizer": "SGD", "epochs": 24}, images=8
    ),
    Case("rare classes weigh more", settings={"class_weights": "auto"}),
    Case("multi-scale, no mosaic", settings={"multi_scale": 0.5, "mosaic": 0.0}),
)
