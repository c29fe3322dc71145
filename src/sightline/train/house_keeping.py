"""What is done and said at the end of an epoch so that hundreds of them can follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sightline.backends import ranks
from sightline.data.loader import Loader
from sightline.data.unreadable import Unreadable, describe, describe_again, merged
from sightline.log import LOGGER

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer


def after_epoch(trainer: BaseTrainer) -> None:
    """Report what happened to the loaders; every `empty_cache_period` epochs give back memory that nobody uses."""
    for loader, what in ((trainer.train_loader, "replaced by others"), (trainer.test_loader, "left out of validation")):
        _report_unreadable(trainer, getattr(loader, "unreadable", None), what)
        _report_restarts(trainer, loader)
    period = trainer.args.empty_cache_period
    if period and (trainer.epoch + 1) % period == 0:
        trainer._clear_memory()


def _report_unreadable(trainer: BaseTrainer, counter: Any, what: str) -> None:
    """Each file is named once; a run of 600 epochs that meets it in every one only counts it from then on."""
    found = merged(ranks.gather(counter.take() if isinstance(counter, Unreadable) else {}))
    if not found or not isinstance(counter, Unreadable):
        return
    new = {path: facts for path, facts in found.items() if path not in counter.named}
    again = {path: facts for path, facts in found.items() if path in counter.named}
    counter.named.update(new)
    if new:
        LOGGER.warning(f"epoch {trainer.epoch + 1}: {describe(new, what)}")
    if again:
        LOGGER.info(f"epoch {trainer.epoch + 1}: {describe_again(again, what)}")
    trainer.guard.note(
        "unreadable_images",
        epoch=trainer.epoch,
        step=trainer.iteration,
        reason=describe(found, what) if new else describe_again(again, what),
        files=sorted(found),
        times=sum(times for times, _ in found.values()),
    )


def _report_restarts(trainer: BaseTrainer, loader: Any) -> None:
    """The loader has said so when it happened; this is for those who read the events."""
    times = sum(ranks.gather(loader.take_restarts() if isinstance(loader, Loader) else 0))
    if times:
        trainer.guard.note("worker_restart", epoch=trainer.epoch, step=trainer.iteration, times=times)
