"""What the rules look at: a run as plain numbers. NaN and None stand for what nobody has measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

NAN = math.nan


@dataclass(slots=True)
class Setup:
    """What is known before the first epoch."""

    epochs: int = 0
    batches: int = 0  # of an epoch
    warmup_epochs: float = 0.0
    optimizer: str = ""
    lr0: float = NAN
    precision: str = ""  # fp32, bf16, fp16
    parameters: int | None = None
    trainable: int | None = None  # of these
    train_images: int | None = None
    val_images: int | None = None
    labelled_images: int | None = None  # training images with an object
    objects: int | None = None  # in the training set
    box_side: float | None = None  # pixels at imgsz, √(w·h), median of the training objects
    class_names: list[str] = field(default_factory=list)
    class_counts: list[int] = field(default_factory=list)  # objects of each class in the training set
    duplicates: int | None = None  # validation images whose file also is a training image
    duplicate_examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Epoch:
    """What one epoch has shown. `epoch` counts from 1."""

    epoch: int
    train_loss: dict[str, float] = field(default_factory=dict)  # by part: box, cls, dfl
    val_loss: dict[str, float] = field(default_factory=dict)
    precision: float = NAN
    recall: float = NAN
    map50: float = NAN
    map: float = NAN  # mAP50-95
    lr: float = NAN  # of the fastest group, at the end of the epoch
    # of the steps
    steps: int | None = None
    grad_norm: float = NAN  # median, before clipping
    grad_norm_max: float = NAN
    not_finite: int | None = None  # steps whose gradient was not
    update: float = NAN  # ‖Δw‖ / ‖w‖ of a step
    update_body: float = NAN
    update_head: float = NAN
    head_gradient: float = NAN  # its norm in the head's weights
    body_gradient: float = NAN
    scale: float = NAN  # of the gradients in fp16
    ema_lag: float = NAN  # ‖ema − w‖ / ‖w − w at the start‖
    images: int | None = None  # shown to the network
    objects: int | None = None  # in their labels
    loader_share: float = NAN  # of the time, waiting for batches
    # of the validation
    detections: int | None = None  # with score ≥ 0.25
    top_score: float = NAN
    placed: int | None = None  # detections ≥ 0.25 that overlap an object (IoU ≥ 0.45)
    misnamed: int | None = None  # those of them whose object has another class
    invented: int | None = None  # detections ≥ 0.25 that overlap none
    missed: int | None = None  # objects without detection
    detected_of_class: list[int] = field(default_factory=list)  # detections ≥ 0.25, by class
    labelled_of_class: list[int] = field(default_factory=list)  # objects of the validation set, by class
    ap50_of_class: list[float] = field(default_factory=list)  # NaN where there are no objects

    @property
    def total_train_loss(self) -> float:
        return sum(self.train_loss.values()) if self.train_loss else NAN

    @property
    def total_val_loss(self) -> float:
        return sum(self.val_loss.values()) if self.val_loss else NAN

    @property
    def all_bad(self) -> bool:
        """Whether no step of this epoch was finite."""
        return bool(self.steps) and self.not_finite == self.steps


@dataclass
class History:
    """A run so far."""

    setup: Setup = field(default_factory=Setup)
    epochs: list[Epoch] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.epochs)

    @property
    def last(self) -> Epoch:
        return self.epochs[-1]

    @property
    def number(self) -> int:
        """The last epoch, counted from 1; 0 before the first."""
        return self.epochs[-1].epoch if self.epochs else 0

    @property
    def left(self) -> int:
        """Epochs that are still to come."""
        return max(self.setup.epochs - self.number, 0)

    def column(self, name: str) -> np.ndarray:
        """(epochs,) float64 values of one attribute; NaN where an epoch has none."""
        values = (getattr(epoch, name) for epoch in self.epochs)
        return np.array([NAN if value is None else float(value) for value in values], dtype=np.float64)

    def steps_so_far(self) -> float:
        """Optimizer steps; where nobody counted them, batches."""
        counted = np.nansum(self.column("steps"))
        return float(counted) if counted else float(self.setup.batches * len(self.epochs))

    def after_warmup(self) -> list[Epoch]:
        return [epoch for epoch in self.epochs if epoch.epoch > math.ceil(self.setup.warmup_epochs)]


def to_plain(item: Setup | Epoch) -> dict[str, Any]:
    """For JSON and checkpoints; what nobody has measured is left out."""
    return {
        name: value
        for name, value in asdict(item).items()
        if not (value is None or value in ({}, [], "") or (isinstance(value, float) and math.isnan(value)))
    }


def setup_from(values: Mapping[str, Any]) -> Setup:
    """The way back; names of other versions are left out."""
    return Setup(**_known(Setup, values))


def epoch_from(values: Mapping[str, Any]) -> Epoch:
    return Epoch(**_known(Epoch, values))


def history_from(setup: Mapping[str, Any], epochs: Iterable[Mapping[str, Any]]) -> History:
    """A history from plain values; of an epoch that is there twice, because the run was resumed, the later counts."""
    by_number = {int(values["epoch"]): epoch_from(values) for values in epochs}
    return History(setup_from(setup), [by_number[number] for number in sorted(by_number)])


def _known(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    names = {item.name for item in fields(kind)}
    known = {name: value for name, value in values.items() if name in names and value is not None}
    if "ap50_of_class" in known:
        known["ap50_of_class"] = [NAN if value is None else float(value) for value in known["ap50_of_class"]]
    return known
