"""report.html at the end of a run, and what it needs on the way; can never end a run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psutil
import torch

from sightline.artifacts.showcase import Showcase
from sightline.artifacts.validation_record import record_of, write_validation
from sightline.callbacks.base import Callback
from sightline.callbacks.step_times import StepTimes
from sightline.callbacks.surroundings import data_summary, environment
from sightline.data.work_times import WorkTimes
from sightline.log import LOGGER
from sightline.report.page import write_report

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer
    from sightline.validate.validator import BaseValidator


class WriteReport(Callback):
    """Adds to events.jsonl what only the running process knows: surroundings, and after every epoch times, momentum and
    memory. At the end it writes validation.json and the page; after an interrupt or an error the page alone.

    It keeps nothing for a resume: times belong to a process, and the rest is in the run folder.
    """

    def __init__(self) -> None:
        self.running = self.recording = False
        self.times: StepTimes | None = None
        self.began = self.validation_began = self.validated = 0.0

    # ------------------------------------------------------------------ moments

    def on_train_start(self, trainer: BaseTrainer) -> None:
        if not trainer.args.report:
            return
        self.running = True
        # diagnosis=False writes no events.jsonl, so there is no place for these either.
        self.recording = trainer.args.diagnosis
        with _harmless("what the report says of machine and data"):
            self._record(trainer, "environment", **environment(trainer))
            self._record(trainer, "data", **data_summary(trainer))
        if hasattr(trainer.validator, "showcase"):  # a user's own need not have it
            trainer.validator.showcase = Showcase()

    def on_train_epoch_start(self, trainer: BaseTrainer) -> None:
        if self.recording:
            _work_of(trainer.train_loader)  # what was prepared before, for a rehearsal, is not of this epoch
            self.began, self.validated = time.perf_counter(), 0.0
            self.times = StepTimes(trainer.device, len(trainer.train_loader))

    def on_train_batch_start(self, trainer: BaseTrainer) -> None:
        if self.times is not None:
            self.times.batch_came()

    def on_before_backward(self, trainer: BaseTrainer) -> None:
        if self.times is not None:
            self.times.mark("backward")

    def on_before_optimizer_step(self, trainer: BaseTrainer) -> None:
        if self.times is not None:
            self.times.mark("step")

    def on_after_optimizer_step(self, trainer: BaseTrainer) -> None:
        if self.times is not None:
            self.times.mark("stepped")

    def on_train_batch_end(self, trainer: BaseTrainer) -> None:
        if self.times is not None:
            self.times.batch_ended()

    def on_val_start(self, validator: BaseValidator) -> None:
        self.validation_began = time.perf_counter()

    def on_val_end(self, validator: BaseValidator) -> None:
        self.validated += time.perf_counter() - self.validation_began

    def on_fit_epoch_end(self, trainer: BaseTrainer) -> None:
        if self.times is None:  # the final validation of best.pt
            return
        times, self.times = self.times, None
        with _harmless("the times of an epoch"):
            seconds = {**times.finish(), "validate": self.validated}
            seconds["other"] = max(0.0, time.perf_counter() - self.began - sum(seconds.values()))
            self._record(
                trainer,
                "trace",
                epoch=trainer.epoch + 1,
                momentum=momentum_of(trainer.optimizer),
                memory_gb=_memory_gb(trainer.device),
                seconds=seconds,
                work=_work_of(trainer.train_loader),
            )

    def on_train_end(self, trainer: BaseTrainer) -> None:
        """On the first rank, after the final validation."""
        if not self.running:
            return
        self._record(trainer, "end", epoch=trainer.epoch + 1)
        validator = trainer.validator
        if hasattr(getattr(validator, "metrics", None), "kinds"):  # else a user's own metrics
            with _harmless("validation.json"):
                conf = getattr(validator, "confusion_conf", None)
                record = record_of(validator.metrics, images=validator.seen, speed=validator.speed, conf=conf)
                showcase = getattr(validator, "showcase", None)
                write_validation(trainer.save_dir, {**record, "showcase": [] if showcase is None else showcase.rows()})

    def teardown(self, trainer: BaseTrainer) -> None:
        if not self.running or trainer.rank or trainer.rehearsal is not None:
            return
        self.running = self.recording = False
        if trainer.csv.is_file():
            with _harmless("report.html"):
                LOGGER.info(f"report in {write_report([trainer.save_dir])}")

    def _record(self, trainer: BaseTrainer, kind: str, **facts: Any) -> None:
        if self.recording:
            trainer.events.add(kind, **facts)


def momentum_of(optimizer: Any) -> float | None:
    """Of the first group that has one; the first beta of Adam and its kin. None for an optimizer without."""
    for group in getattr(optimizer, "param_groups", []):
        if "momentum" in group:
            return float(group["momentum"])
        if "betas" in group:
            return float(group["betas"][0])
    return None


@contextlib.contextmanager
def _harmless(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        LOGGER.warning(f"{what} could not be written ({type(error).__name__}: {error}); the run goes on without")


def _work_of(loader: Any) -> dict[str, float] | None:
    """Seconds of reading and augmenting since the last call, and the number of workers; of this rank's loader. None
    for a loader of the user's own."""
    times = getattr(loader, "work_times", None)
    return times.take() | {"workers": loader.workers} if isinstance(times, WorkTimes) else None


def _memory_gb(device: torch.device) -> float:
    """In use: the GPU's where there is one, else the process's."""
    used = torch.cuda.memory_reserved(device) if device.type == "cuda" else psutil.Process().memory_info().rss
    return round(used / 2**30, 3)
