"""The setting `time`: hours instead of epochs."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from sightline.backends import ranks

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer


def is_up(trainer: BaseTrainer) -> bool:
    """Whether the budget, or a user's `stop`, ends the epoch here; all ranks agree. What has accumulated is stepped
    by the end of the epoch."""
    settings = trainer.args
    trainer.stop |= settings.time is not None and time.time() - trainer.train_time_start >= settings.time * 3600
    trainer.stop = ranks.any_of(trainer.stop)
    return trainer.stop


def replan(trainer: BaseTrainer) -> None:
    """The number of epochs follows from the pace, and the schedule from that number."""
    if trainer.args.time is None or trainer.stop:
        return
    seconds_per_epoch = (time.time() - trainer.train_time_start) / (trainer.epoch + 1 - trainer.start_epoch)
    epochs = ranks.broadcast(max(math.ceil(trainer.args.time * 3600 / seconds_per_epoch), trainer.epoch + 1))
    if epochs != trainer.epochs:
        trainer.args.assign("epochs", epochs, origin="auto")
        trainer.schedule.replan(epochs)
