"""What may happen after a batch besides the next one: a save, or an end. All ranks decide together, in one message."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from sightline.backends import ranks
from sightline.log import LOGGER
from sightline.train import time_budget
from sightline.train.interrupt import interruption, resume_command

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer


def leaves_epoch(trainer: BaseTrainer) -> bool:
    """Save in the middle of the epoch if that is due; whether `stop` or the time budget ends the epoch here.

    Raises:
        Interrupted: a signal came, and everything is saved.
    """
    due_here = trainer.saver.count_batch(trainer)
    stop, asked, due = ranks.highest(
        int(trainer.stop or time_budget.is_spent(trainer)), trainer.interrupt.asked, int(due_here)
    )
    trainer.stop = bool(stop)
    if asked:
        trainer.saver.save_position(trainer)
        _leave(trainer, asked)
    elif due and not stop:
        trainer.saver.save_position(trainer)
    return trainer.stop


def after_epoch(trainer: BaseTrainer) -> None:
    """The epoch is saved; end the run here if a signal came during its validation.

    Raises:
        Interrupted: see above.
    """
    asked, ends = ranks.highest(trainer.interrupt.asked, int(trainer.stop or trainer.stop_training))
    trainer.stop_training = bool(ends)  # a callback may know more on one rank than on others
    if asked and not ends:  # where the last epoch is over, the run may as well end
        _leave(trainer, asked)


def _leave(trainer: BaseTrainer, number: int) -> None:
    trainer.saver.wait(trainer)
    ranks.barrier()  # the first rank to end takes the others with it
    name, where = signal.Signals(number).name, trainer.place
    if trainer.saver.failed:
        message = f"{name}: ended after {where}, which could not be saved. {trainer.last} is older."
    else:
        message = f"{name}: ended after {where}; everything is in {trainer.last}."
    message = f"{message} To go on: {resume_command(trainer.last)}"
    LOGGER.warning(message)
    raise interruption(number, message)
