"""The setting `time`: hours instead of epochs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sightline.backends import ranks
from sightline.train import clock

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer


def elapsed(trainer: BaseTrainer) -> float:
    """Seconds since `on_train_start`, without those of the runs that this one resumes."""
    return clock.now() - trainer.train_time_start


def seconds_per_epoch(trainer: BaseTrainer) -> float:
    """The pace so far, at the end of an epoch; a resumed run may have begun within its first."""
    part = trainer.first_batch / max(len(trainer.train_loader), 1)
    return elapsed(trainer) / max(trainer.epoch + 1 - trainer.start_epoch - part, 1e-3)


def is_spent(trainer: BaseTrainer) -> bool:
    """Whether this rank finds the budget used up."""
    return trainer.args.time is not None and elapsed(trainer) >= trainer.args.time * 3600


def is_up(trainer: BaseTrainer) -> bool:
    """Whether the budget, or a user's `stop`, ends the run here; all ranks agree. What has accumulated is stepped by
    the end of the epoch."""
    trainer.stop = ranks.any_of(trainer.stop or is_spent(trainer))
    return trainer.stop


def replan(trainer: BaseTrainer) -> None:
    """The number of epochs follows from the pace, and the schedule from that number."""
    if trainer.args.time is None or trainer.stop:
        return
    epochs = math.ceil(trainer.args.time * 3600 / seconds_per_epoch(trainer))
    epochs = ranks.broadcast(max(epochs, trainer.epoch + 1))
    if epochs != trainer.epochs:
        trainer.args.assign("epochs", epochs, origin="auto")
        trainer.schedule.replan(epochs)
