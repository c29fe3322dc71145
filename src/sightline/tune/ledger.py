"""The trials of a study, in an SQLite file of Optuna: who is next, what came out, and what a killed process left.

Any number of processes may open the same file. One decision at a time: they pass through a lock.
"""

from __future__ import annotations

import math
import os
import socket
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from sightline.errors import MissingExtraError, TrainingError
from sightline.files import lock
from sightline.log import LOGGER
from sightline.tune.plan import Plan
from sightline.tune.space import Choices, Dimension
from sightline.tune.trial import COMPLETE, FAILED, PRUNED, Outcome

try:
    import optuna
    from optuna.trial import TrialState
except ImportError as error:  # the only file with evolve.py that needs it; loaded when a study is opened
    raise MissingExtraError(
        f"tune needs Optuna, which keeps the trials ({error}). Install it: pip install sightline[optuna]"
    ) from None

FILE, LOCK, NAME = "study.db", "study.lock", "tune"
MOST_TRIES = 3  # of a trial whose process dies: once may be somebody's kill, three times is the trial
WAIT = 60.0  # seconds for another process to let the database go
SAMPLED_FIRST = 10  # trials of tpe that are random, unless the study is short

RUNNING = "running"
INTERRUPTED, GIVEN_UP = "interrupted", "given up"  # tables of the study: number of a trial → why


@dataclass(frozen=True)
class Row:
    """A trial, as tables and pictures want it.

    Attributes:
        number: of Optuna, from 0. A trial that was interrupted and done again has two, of which this is the later.
        state: running, complete, pruned or failed.
        fitness: of its best epoch; NaN where there is none.
        epochs: that were validated.
        curve: epoch (from 0) → fitness.
        seconds: from its beginning to its end.
    """

    number: int
    state: str
    fitness: float
    values: Mapping[str, Any]
    folder: str
    epochs: int
    curve: Mapping[int, float]
    seconds: float
    reason: str

    @property
    def has_ended_well(self) -> bool:
        return self.state in (COMPLETE, PRUNED) and math.isfinite(self.fitness)


@dataclass(frozen=True)
class Ticket:
    """A trial that is to be run.

    Attributes:
        values: setting → value.
        folder: where; one that was interrupted goes on in its own.
    """

    number: int
    values: Mapping[str, Any]
    folder: Path


class Ledger:
    """Opens the study of a plan, or makes it.

    Raises:
        TrainingError: the file cannot be read.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._open: dict[int, Any] = {}  # trials of this process
        self._curves: dict[int, dict[int, float]] = {}  # what these have reported
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        database = plan.folder.absolute() / FILE
        is_new = not database.exists()
        try:
            with self._alone():
                storage = optuna.storages.RDBStorage(
                    f"sqlite:///{database}", engine_kwargs={"connect_args": {"timeout": WAIT}}
                )
                self.study = optuna.create_study(
                    storage=storage, study_name=NAME, direction="maximize", load_if_exists=True, pruner=self._pruner()
                )
                if is_new and plan.start_is_inside:
                    self.study.enqueue_trial(dict(plan.start))
        except Exception as error:
            raise TrainingError(
                f"{database} cannot be opened ({error}). Start a new study in another folder."
            ) from error

    # ------------------------------------------------------------------ who is next

    def next(self) -> Ticket | None:
        """The next trial for this process; None where all are done or under way."""
        with self._alone():
            counted = self._counted()
            if len(counted) >= self.plan.options.trials:
                return None
            # Chance is a function of the study's seed and the trials before, so a study that was killed and goes on
            # makes the trials that it would have made.
            self.study.sampler = sampler_of(self.plan, len(counted))
            trial = self.study.ask()
            values = {name: suggest(trial, name, dimension) for name, dimension in self.plan.space.items()}
            folder = trial.user_attrs.get("folder") or self.plan.folder_of(trial.number).name
            trial.set_user_attr("folder", folder)
            trial.set_user_attr("process", _this_process())
            self._open[trial.number], self._curves[trial.number] = trial, {}
            return Ticket(trial.number, values, self.plan.folder / folder)

    def report(self, number: int, epoch: int, fitness: float) -> bool:
        """Note the fitness of an epoch (from 0); returns whether the trial should end."""
        trial = self._open[number]
        if epoch not in self._curves[number]:
            trial.report(fitness, epoch)
            self._curves[number][epoch] = fitness
        return bool(self.plan.options.pruner != "none" and trial.should_prune())

    def reported(self, number: int) -> dict[int, float]:
        """Epoch → fitness of what is known of a trial, also from before it was interrupted."""
        curve = self._open[number].user_attrs.get("curve_before", {})
        return {int(epoch): float(fitness) for epoch, fitness in curve.items()}

    def end(self, number: int, outcome: Outcome) -> None:
        """Note how a trial ended."""
        with self._alone():
            self._open[number].set_user_attr("reason", outcome.reason)
            if outcome.state == COMPLETE:
                self.study.tell(number, outcome.fitness)
            else:
                self.study.tell(number, state=TrialState.FAIL if outcome.state == FAILED else TrialState.PRUNED)
            del self._open[number], self._curves[number]

    # ------------------------------------------------------------------ what a killed process left

    def running_elsewhere(self) -> list[int]:
        """Processes that run trials of this study now."""
        found = [trial.user_attrs.get("process") for trial in self._all() if trial.state == TrialState.RUNNING]
        return sorted({process[1] for process in found if process and _lives(process)})

    def recover(self, process: int | None = None, why: str = "its process ended") -> int:
        """Queue again what processes that are gone have begun; it goes on from its last.pt. Returns how many.

        Args:
            process: only what this process began; None is every one that is gone.
            why: the reason that is noted.
        """
        again = 0
        with self._alone():
            for trial in self._all():
                owner = trial.user_attrs.get("process")
                is_its = process is not None and owner and owner[1] == process
                if trial.state != TrialState.RUNNING or not (is_its or (process is None and not _lives(owner))):
                    continue
                attributes = dict(trial.user_attrs)
                tries = attributes.get("tries", 1)
                if tries >= MOST_TRIES:
                    self._note(GIVEN_UP, trial.number, f"{why}, {tries} times")
                    self.study.tell(trial.number, state=TrialState.FAIL)
                    continue
                self._note(INTERRUPTED, trial.number, why)
                self.study.tell(trial.number, state=TrialState.FAIL)
                before = {**attributes.get("curve_before", {}), **trial.intermediate_values}
                kept = {"folder": attributes.get("folder"), "tries": tries + 1}
                kept["curve_before"] = {str(epoch): fitness for epoch, fitness in before.items()}
                self.study.enqueue_trial(dict(trial.params), user_attrs=kept)
                again += 1
        return again

    # ------------------------------------------------------------------ what came out

    def rows(self) -> list[Row]:
        """The trials that count, in the order in which they were made."""
        given_up = self.study.user_attrs.get(GIVEN_UP, {})
        return [_row(trial, given_up.get(str(trial.number))) for trial in self._counted()]

    def ended(self) -> list[int]:
        """Numbers of the trials that have ended."""
        return [row.number for row in self.rows() if row.state != RUNNING]

    def left_to_take(self) -> int:
        """Trials that nobody has begun yet."""
        return max(self.plan.options.trials - len(self._counted()), 0)

    def importances(self) -> dict[str, float]:
        """Setting → share of the differences between trials that it explains; {} where there are too few.

        Source: Watanabe et al., PED-ANOVA, arXiv:2304.10255, as Optuna computes it.
        """
        complete = [trial for trial in self._all() if trial.state == TrialState.COMPLETE]
        if len(complete) < 4 or len({trial.value for trial in complete}) < 2:
            return {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = optuna.importance.get_param_importances(
                    self.study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
                )
        except (ValueError, RuntimeError) as error:  # numerical trouble in few trials
            LOGGER.warning(f"the importance of settings cannot be computed: {error}")
            return {}
        return {name: float(share) for name, share in found.items() if math.isfinite(share)}

    # ------------------------------------------------------------------ helpers

    def _alone(self) -> Any:
        return lock(self.plan.folder / LOCK)

    def _all(self) -> list[Any]:
        return self.study.get_trials(deepcopy=False)

    def _counted(self) -> list[Any]:
        """All but those that wait, and those that were interrupted and are done again."""
        interrupted = self.study.user_attrs.get(INTERRUPTED, {})
        return [
            trial for trial in self._all() if trial.state != TrialState.WAITING and str(trial.number) not in interrupted
        ]

    def _note(self, table: str, number: int, why: str) -> None:
        """On the study, because a trial of another process cannot be written to."""
        self.study.set_user_attr(table, {**self.study.user_attrs.get(table, {}), str(number): why})

    def _pruner(self) -> Any:
        options, settings = self.plan.options, self.plan.settings
        if options.pruner == "none" or options.engine == "ray":  # Ray's scheduler decides there
            return optuna.pruners.NopPruner()
        grace = grace_period(self.plan)
        if options.pruner == "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=grace, max_resource=settings.epochs, reduction_factor=3)
        return optuna.pruners.MedianPruner(n_startup_trials=min(5, options.trials // 4 + 1), n_warmup_steps=grace)


def sampler_of(plan: Plan, position: int) -> Any:
    """Who chooses the values of a trial, when `position` trials are there."""
    seed = int(np.random.SeedSequence([plan.settings.seed, position]).generate_state(1)[0])
    if plan.options.method == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if plan.options.method == "evolve":
        from sightline.tune.evolve import EvolveSampler

        return EvolveSampler(seed)
    first = min(SAMPLED_FIRST, max(plan.options.trials // 3, 2))
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=first, multivariate=True)


def grace_period(plan: Plan) -> int:
    """Epochs that no trial is ended before: in the warm-up the slow look bad that are good later."""
    if plan.options.grace_period is not None:
        return plan.options.grace_period
    settings = plan.settings
    warmup = math.ceil(settings.warmup_epochs) if settings.warmup_steps is None else 0
    return max(1, min(max(warmup, math.ceil(settings.epochs / 4)), settings.epochs))


def suggest(trial: Any, name: str, dimension: Dimension) -> Any:
    if isinstance(dimension, Choices):
        return trial.suggest_categorical(name, list(dimension.values))
    if dimension.whole:
        low, high, step = int(dimension.low), int(dimension.high), int(dimension.step or 1)
        return trial.suggest_int(name, low, high, log=dimension.log, step=1 if dimension.log else step)
    return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def _row(trial: Any, why: str | None) -> Row:
    states = {TrialState.COMPLETE: COMPLETE, TrialState.PRUNED: PRUNED, TrialState.FAIL: FAILED}
    attributes = trial.user_attrs
    curve = {**attributes.get("curve_before", {}), **trial.intermediate_values}
    curve = {int(epoch): float(fitness) for epoch, fitness in curve.items()}
    fitness = max(curve.values(), default=math.nan)
    start, end = trial.datetime_start, trial.datetime_complete
    return Row(
        number=trial.number,
        state=states.get(trial.state, RUNNING),
        fitness=fitness if trial.value is None or trial.state != TrialState.COMPLETE else float(trial.value),
        values=dict(trial.params),
        folder=str(attributes.get("folder", "")),
        epochs=len(curve),
        curve=dict(sorted(curve.items())),
        seconds=(end - start).total_seconds() if start and end else math.nan,
        reason=why or str(attributes.get("reason", "")),
    )


def _this_process() -> list[Any]:
    """What tells this process from another, also after its number is given to a new one."""
    return [socket.gethostname(), os.getpid(), psutil.Process().create_time()]


def _lives(process: Any) -> bool:
    if not process:
        return False
    host, number, began = process
    if host != socket.gethostname():
        return False
    try:
        other = psutil.Process(number)
        return bool(other.status() != psutil.STATUS_ZOMBIE and abs(other.create_time() - began) < 1.0)
    except psutil.Error:
        return False


def wait_until_gone(ledger: Ledger, seconds: float) -> list[int]:
    """Processes that still run trials after that long; those of a supervisor that was killed end by themselves."""
    end = time.monotonic() + seconds
    while (found := ledger.running_elsewhere()) and time.monotonic() < end:
        time.sleep(0.2)
    return found
