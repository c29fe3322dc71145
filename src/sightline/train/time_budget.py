"""The setting `time`: hours instead of epochs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sightline.backends import ranks

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer


def is_spent(trainer: BaseTrainer) -> bool:
    """Whether this rank finds the budget used up."""
    return trainer.args.time is not None and trainer.elapsed() >= trainer.args.time * 3600


def is_up(trainer: BaseTrainer) -> bool:
    """Whether the budget, or a user's `stop`, ends the run here; all ranks agree. What has accumulated is stepped by
    the end of the epoch."""
    trainer.stop = ranks.any_of(trainer.stop or is_spent(trainer))
    return trainer.stop


def replan(trainer: BaseTrainer) -> None:
    """The number of epochs follows from the pace, and the schedule from that number."""
    if trainer.args.time is None or trainer.stop:
        return
    seconds_per_epoch = trainer.elapsed() / trainer.epochs_done()
    epochs = ranks.broadcast(max(math.ceil(trainer.args.time * 3600 / seconds_per_epoch), trainer.epoch + 1))
    if epochs != trainer.epochs:
        trainer.args.assign("epochs", epochs, origin="auto")
        trainer.schedule.replan(epochs)
