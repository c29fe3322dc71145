"""A copy of a trainer to try things on, set up as for its run, with nothing to put back afterwards.

Everything that decides what a step does is that of the run. Callbacks belong to the run and are left out. The trainer,
its network, its callbacks and the process-wide random generators are after it what they were before.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.callbacks.base import CallbackHost
from sightline.data.own_loader import begin_epoch
from sightline.errors import SettingValueError
from sightline.train import stages
from sightline.train.environment import run_environment
from sightline.train.live_settings import LiveSettings
from sightline.train.random_states import random_state, set_random_state

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer


@contextmanager
def twin_of(trainer: BaseTrainer, **changed: Any) -> Iterator[BaseTrainer]:
    """The twin of a trainer that has not been started: with network, loaders, optimizer and schedule, in a folder of
    its own that does not outlive the block.

    Args:
        changed: settings that are others for the twin.
    """
    settings = trainer.args
    with ExitStack() as stack:
        stack.enter_context(_generators_restored())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sightline-trial-"))
        stack.enter_context(run_environment(seed=settings.seed, deterministic=settings.deterministic))
        twin = copy_of(trainer)
        for name, value in {**changed, "save_dir": str(Path(folder) / "run")}.items():
            twin.args.assign(name, value, origin="auto")
        twin.live = LiveSettings(twin)  # these are no changes of the user's
        try:
            twin._setup_train()
            yield twin
        finally:
            twin._close_loaders()


def refuse_what_makes_no_sense(trainer: BaseTrainer, command: str, result: str) -> None:
    """
    Args:
        command: of the command line.
        result: the setting that it is asked for.

    Raises:
        SettingValueError: the run would be one that goes on, a dry one, or one of several processes.
    """
    settings = trainer.args
    if settings.resume or settings.dry_run:
        other = f"resume={settings.resume}" if settings.resume else "dry_run=True"
        raise SettingValueError(f"{command} is for a run that is to begin: leave {other} out.")
    if trainer.world_size > 1:
        raise SettingValueError(
            f"{result} is looked for in one process, but {trainer.world_size} are to train. Run `sightline {command}` "
            f"with device=0 (or without nproc) and the same batch, then train with the {result} that it prints."
        )


def copy_of(trainer: BaseTrainer) -> BaseTrainer:
    """A trainer that has not been started, once more: with settings and attributes of its own, without callbacks.

    The network that it starts from is shared (a run copies from it), and so is what cannot be copied, such as open
    files of a user's own.
    """
    twin: BaseTrainer = object.__new__(type(trainer))
    settings = trainer.args.copy()
    memo: dict[int, Any] = {id(trainer): twin, id(trainer.args): settings, id(trainer.source): trainer.source}
    for name, value in vars(trainer).items():
        if name not in ("callbacks", "objects"):
            twin.__dict__[name] = _copied(value, memo)
    CallbackHost.__init__(twin)
    return twin


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # a file, a lock, a connection
        return value


@contextmanager
def _generators_restored() -> Iterator[None]:
    before = random_state()
    try:
        yield
    finally:
        set_random_state(before)


def endless_batches(trainer: BaseTrainer) -> Iterator[dict[str, Any]]:
    """Batches without end, all of one size: the rest at the end of an epoch would have a noisier loss."""
    epoch, augmentation = 0, stages.augmentation(trainer)
    whole = min(trainer.batch_size, len(trainer.train_loader.dataset))
    while True:
        if epoch:
            begin_epoch(trainer.train_loader, epoch, mixing=trainer.mixing, start=0, augmentation=augmentation)
        for batch in trainer.train_loader:
            if len(batch["img"]) >= whole or len(trainer.train_loader) == 1:
                yield batch
        epoch += 1
