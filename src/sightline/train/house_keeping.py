"""What is done and said at the end of an epoch so that hundreds of them can follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.backends import ranks
from sightline.data.unreadable import Unreadable, describe, merged
from sightline.log import LOGGER

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer


def after_epoch(trainer: BaseTrainer) -> None:
    """Report images that could not be read; every `empty_cache_period` epochs give back memory that nobody uses."""
    for loader, what in ((trainer.train_loader, "replaced by others"), (trainer.test_loader, "left out of validation")):
        counter = getattr(loader, "unreadable", None)
        found = merged(ranks.gather(counter.take() if isinstance(counter, Unreadable) else {}))
        if found:
            text = describe(found, what)
            LOGGER.warning(f"epoch {trainer.epoch + 1}: {text}")
            trainer.guard.note(
                "unreadable_images",
                epoch=trainer.epoch,
                step=trainer.iteration,
                reason=text,
                files=sorted(found),
                times=sum(times for times, _ in found.values()),
            )
    period = trainer.args.empty_cache_period
    if period and (trainer.epoch + 1) % period == 0:
        trainer._clear_memory()
