"""One trial: a run of train in a folder of its own, which says after every epoch how good it is."""

from __future__ import annotations

import copy
import gc
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from sightline.callbacks.base import Callback
from sightline.config.load import make_settings
from sightline.errors import SightlineError, UsageError
from sightline.files import previous_of
from sightline.log import LOGGER
from sightline.models.training_settings import settings_in_file
from sightline.tasks import get_task
from sightline.tune.in_force import trial_settings

if TYPE_CHECKING:
    from sightline.config.settings import Settings
    from sightline.train.trainer import BaseTrainer
    from sightline.tune.plan import Options, Plan

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
MOST_REASON = 300  # letters of an error that go into tables


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        state: complete, pruned or failed.
        fitness: of its best epoch; NaN where there is none.
        reason: why it failed; "" otherwise.
    """

    state: str
    fitness: float
    reason: str = ""


# Told epoch (from 0) and fitness after every validation; returns whether the trial should end.
Report = Callable[[int, float], bool]


class RunTrial(Protocol):
    """What runs a trial; tests put something quick in its place."""

    def __call__(self, plan: Plan, values: Mapping[str, Any], folder: Path, report: Report) -> Outcome: ...


@dataclass
class TrainTrial:
    """Train with the values of a trial.

    Attributes:
        source: a network to start from, of which every trial gets a copy; None takes what `model` names.
        trainer: a class in the place of the task's trainer.
        callbacks: of the user: pairs of event and function.
        is_from_file: whether `model` alone gives that network, so that another process can make it.
    """

    source: nn.Module | None = None
    trainer: Any = None
    callbacks: Any = None
    is_from_file: bool = True

    def make(self, settings: Settings) -> BaseTrainer:
        made = (self.trainer or get_task(settings.task).load("trainer"))(cfg=settings)
        made.source = copy.deepcopy(self.source)
        return made  # type: ignore[no-any-return]

    def __call__(self, plan: Plan, values: Mapping[str, Any], folder: Path, report: Report) -> Outcome:
        """A run that has a last.pt goes on from it.

        An interrupt goes on to the caller; every other error is an outcome, because the next trial need not have it.
        """
        reporter = Reporter(report)
        try:
            with _voice_of(plan.settings):
                self._train(_settings(plan, values, folder), reporter)
        except Exception as error:
            return Outcome(FAILED, math.nan, reason_of(error))
        finally:
            gc.collect()  # a trainer has cycles, and the next trial wants its memory
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        if reporter.best == -math.inf:
            return Outcome(FAILED, math.nan, "no epoch had a finite fitness")
        return Outcome(PRUNED if reporter.ended else COMPLETE, reporter.best)

    def _train(self, settings: Settings, reporter: Reporter) -> None:
        trainer = self.make(settings)
        trainer.add_callbacks(self.callbacks)
        trainer.add_callback(reporter)
        trainer.train()


class Reporter(Callback):
    """Hands the fitness of every epoch on, and ends the run in order where it is told to."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.best = -math.inf
        self.ended = False
        self.in_epoch = False  # the moment comes once more, after the final validation

    def on_train_epoch_end(self, trainer: BaseTrainer) -> None:
        self.in_epoch = True

    def on_fit_epoch_end(self, trainer: BaseTrainer) -> None:
        fitness, due = trainer.fitness, self.in_epoch and trainer.validated
        self.in_epoch = False
        if not due or fitness is None or not math.isfinite(fitness):
            return
        self.best = max(self.best, float(fitness))
        last = trainer.stop or trainer.epoch + 1 >= trainer.epochs
        if self.report(trainer.epoch, float(fitness)) and not last:
            self.ended = trainer.stop_training = True


def has_begun(folder: Path) -> bool:
    """Whether the run in a folder can go on."""
    last = folder / "weights" / "last.pt"
    return last.is_file() or previous_of(last).is_file()


def reason_of(error: BaseException) -> str:
    """One line that says what went wrong."""
    text = " ".join(str(error).split()) or "no message"
    kind = "" if isinstance(error, SightlineError) else f"{type(error).__name__}: "
    return f"{kind}{text}"[:MOST_REASON]


def _settings(plan: Plan, values: Mapping[str, Any], folder: Path) -> Settings:
    if has_begun(folder):
        last = str(folder / "weights" / "last.pt")
        return make_settings("train", {"resume": last, "model": last}, in_model_file=settings_in_file, quiet=True)
    settings = trial_settings(plan.settings, values)
    for name, value in {"save_dir": str(folder), "exist_ok": True, "name": None, "project": None}.items():
        settings.assign(name, value, origin="tune")
    return settings


@contextmanager
def _voice_of(settings: Settings) -> Iterator[None]:
    """A trial that was not asked to say more says only what is wrong."""
    before = LOGGER.level
    if not settings.verbose:
        LOGGER.setLevel("WARNING")
    try:
        yield
    finally:
        LOGGER.setLevel(before)


def check_can_travel(run: RunTrial, options: Options, objects: Iterable[str]) -> None:
    """
    Raises:
        UsageError: trials are to run in other processes, and these could not make what was given as objects.
    """
    if not isinstance(run, TrainTrial) or (options.parallel == 1 and options.engine != "ray"):
        return
    given = [name for name, value in (("trainer", run.trainer), ("callbacks", run.callbacks)) if value]
    given += list(objects)
    if given or not run.is_from_file:
        what = ", ".join(given) or "the network as you changed it"
        how = "engine=ray" if options.engine == "ray" else f"parallel={options.parallel}"
        raise UsageError(
            f"{how} runs trials in processes of their own, which know files and settings only, not {what}. "
            "Leave out one of them; a changed network can be saved and named as model=."
        )


def check_one_device(settings: Settings) -> None:
    """
    Raises:
        UsageError: several processes would train one trial, of which only one could tell its fitness.
    """
    if (settings.nproc or 1) > 1 or "," in str(settings.device or ""):
        asked = f"nproc={settings.nproc}" if (settings.nproc or 1) > 1 else f"device={settings.device}"
        raise UsageError(f"{asked}: a trial trains in one process. Use parallel=N: trials side by side, a GPU each.")
