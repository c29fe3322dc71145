"""What "best" means in a run: the setting `fitness`, as one goal or several, each with the best it has reached.

The first goal is the fitness of the run (best.pt, early stopping). Goals from a list or dict also keep their own file,
best_<name>.pt.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import SettingValueError, TrainingError
from sightline.log import LOGGER
from sightline.metrics.expression import Expression

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

LONGEST_NAME = 60  # characters of best_<name>.pt


def put_in_force(trainer: BaseTrainer) -> None:
    """What is best and what is logged. A name that no validation knows is an error now, not after an epoch."""
    names, validator, settings = dict(trainer.data["names"]), trainer.validator, trainer.args
    if settings.fitness is not None:
        losses = trainer.label_loss_items(prefix="val")
        trainer.goals = Goals(settings.fitness, [*trainer.metric_keys(), *validator.loggable_keys(names), *losses])
        validator.log_also = tuple(trainer.goals.keys)
        trainer.in_force["fitness"] = trainer.goals.in_words()
    if settings.log_metrics:  # also where a user's validator was not given the settings of the run
        validator.args.assign("log_metrics", settings.log_metrics, origin="code")
    if settings.log_metrics or trainer.goals:
        trainer.logged = tuple(validator.logged_keys(names))
    if settings.log_metrics:
        trainer.in_force["log_metrics"] = "logs " + (", ".join(trainer.logged) or "nothing but the means, always there")


@dataclass
class Goal:
    """One number to raise.

    Attributes:
        name: of the column fitness/<name> and the file best_<name>.pt.
        measure: metrics → number, an `Expression` or a user's function.
        value: of this epoch; None if it was not validated, NaN where it is undefined.
        best: the highest so far, None before the first.
        best_epoch: when that was, counted from 1.
        written: the value whose weights the file has.
    """

    name: str
    measure: Callable[[Mapping[str, float]], Any]
    value: float | None = None
    best: float | None = None
    best_epoch: int = 0
    written: float | None = None

    @property
    def text(self) -> str | None:
        """The expression; None for a function."""
        return self.measure.text if isinstance(self.measure, Expression) else None

    def __call__(self, metrics: Mapping[str, float]) -> float:
        """The number for these metrics; NaN where it is undefined."""
        if isinstance(self.measure, Expression):
            return self.measure(metrics)
        try:
            found = self.measure(dict(metrics))  # a copy: what a function changes in it stays its own affair
        except Exception as error:
            raise TrainingError(
                f"fitness={self.name}: the function raised {type(error).__name__}: {error}. It is called with the "
                f"metrics of a validation, a dict with {', '.join(metrics)}."
            ) from error
        try:
            value = float(found)
        except (TypeError, ValueError):
            raise TrainingError(
                f"fitness={self.name}: the function returned {found!r:.80} ({type(found).__name__}). It returns one "
                "number, higher is better."
            ) from None
        return value if math.isfinite(value) else math.nan


class Goals:
    """All goals of a run. Without the setting there are none, and the validator's own fitness counts.

    Args:
        fitness: the setting: None, an expression, a function, or a list or dict (by name) of those.
        known: full names of the metrics that expressions may use.

    Attributes:
        goals: the first is the fitness of the run.
        have_files: whether each keeps a best_<name>.pt.

    Raises:
        SettingValueError: an expression is wrong, a function takes no metrics, or two goals share a name.
    """

    def __init__(self, fitness: Any = None, known: Iterable[str] = ()) -> None:
        self.have_files = isinstance(fitness, list | dict)
        known = list(known)
        self.goals: list[Goal] = [Goal(name, _measure(what, known)) for name, what in _named(fitness).items()]
        self._measured: float | None = None  # the first goal's value, as `BaseTrainer.validate` got it this epoch
        self._said: set[str] = set()  # what was warned of, once a run

    def __bool__(self) -> bool:
        return bool(self.goals)

    def __iter__(self) -> Iterator[Goal]:
        return iter(self.goals)

    @property
    def keys(self) -> list[str]:
        """The metrics that the expressions use."""
        return [key for goal in self.goals if isinstance(goal.measure, Expression) for key in goal.measure.keys]

    @property
    def columns(self) -> dict[str, float | None]:
        """fitness/<name> → value of this epoch."""
        return {f"fitness/{goal.name}": goal.value for goal in self.goals}

    def in_words(self) -> str:
        """What the setting does, for the start of the run."""
        first, *_ = self.goals
        text = f"{first.text or f'the function {first.name}'} decides best.pt and early stopping"
        files = ", ".join(f"{goal.name} keeps best_{goal.name}.pt" for goal in self.goals)
        return f"{text}; {files}" if self.have_files else text

    # ------------------------------------------------------------------ an epoch

    def begin(self) -> None:
        """Forget the values of the last epoch."""
        self._measured = None
        for goal in self.goals:
            goal.value = None

    def main(self, metrics: Mapping[str, float]) -> float:
        """The fitness of the run for these metrics."""
        self._measured = self.goals[0](metrics)
        return self._measured

    def settle(self, metrics: Mapping[str, float] | None, fitness: float | None, epoch: int) -> None:
        """Take what the trainer's `validate` returned: its fitness is the first goal's, the others are computed.

        Args:
            metrics: None if there is nothing to measure.
            epoch: counted from 1.
        """
        if not self.goals:
            return
        first, *others = self.goals
        first.value = fitness
        if metrics is not None:
            self._say_who_decides(fitness)
            for goal in others:
                goal.value = goal(metrics)
            self._say_what_is_undefined(metrics)
        for goal in self.goals:
            if goal.value is not None and not math.isnan(goal.value) and (goal.best is None or goal.value > goal.best):
                goal.best, goal.best_epoch = goal.value, epoch

    def files_due(self, folder: Path, exists: Callable[[Path], bool] = Path.exists) -> list[Goal]:
        """Goals whose file this epoch is written to: it is better than what the file has, or there is none.

        Args:
            exists: whether a file is there, or about to be.
        """
        if not self.have_files:
            return []
        return [
            goal
            for goal in self.goals
            if goal.value is not None
            and not math.isnan(goal.value)
            and (goal.written is None or goal.value > goal.written or not exists(self.file(folder, goal)))
        ]

    def file(self, folder: Path, goal: Goal) -> Path:
        return folder / f"best_{goal.name}.pt"

    def _say_who_decides(self, fitness: float | None) -> None:
        """A trainer's own `validate` goes before the setting; nobody should have to find that out."""
        same = fitness == self._measured or (fitness != fitness and self._measured != self._measured)
        if not same:
            self._say(
                "validate",
                f"fitness={self.goals[0].text or self.goals[0].name} is set, but validate() of the trainer returned "
                f"{'no fitness' if fitness is None else f'a fitness of its own, {fitness:g}'}. What validate() "
                "returns decides.",
            )

    def _say_what_is_undefined(self, metrics: Mapping[str, float]) -> None:
        for goal in self.goals:
            if goal.value is None or not math.isnan(goal.value):
                continue
            keys = goal.measure.keys if isinstance(goal.measure, Expression) else ()
            found = ", ".join(f"{key} is {metrics.get(key, 'missing')}" for key in keys)
            self._say(
                goal.name,
                f"fitness/{goal.name} is no number{f' ({found})' if found else ''}: that counts as no improvement, "
                "also in later epochs.",
            )

    def _say(self, what: str, message: str) -> None:
        if what not in self._said:
            LOGGER.warning(message)
        self._said.add(what)

    # ------------------------------------------------------------------ resume

    def state_dict(self) -> list[dict[str, Any]]:
        """A row for each goal."""
        return [
            {
                "name": goal.name,
                "text": goal.text,
                "best": goal.best,
                "best_epoch": goal.best_epoch,
                "written": goal.written,
            }
            for goal in self.goals
        ]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Go on from `state_dict`.

        Raises:
            SettingValueError: the goals were others: what is best so far cannot be compared with what comes.
        """
        before = [(row["name"], row["text"]) for row in state]
        if before != [(goal.name, goal.text) for goal in self.goals]:
            raise SettingValueError(
                f"fitness cannot change in a run that goes on: it was {_listed(before)}, and now it is "
                f"{_listed([(goal.name, goal.text) for goal in self.goals])}. Give the same again (functions "
                "are not saved), or start a new run from the weights: model=last.pt"
            )
        for goal, row in zip(self.goals, state, strict=True):
            goal.best, goal.best_epoch, goal.written = row["best"], row["best_epoch"], row["written"]


def _named(fitness: Any) -> dict[str, Any]:
    """Name → expression or function."""
    if fitness is None:
        return {}
    if isinstance(fitness, dict):
        return _distinct(list(fitness.items()))
    return _distinct([(_name(each), each) for each in (fitness if isinstance(fitness, list) else [fitness])])


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, str] = {}
    for name, _ in pairs:
        if name.lower() in seen:  # on some systems best_F1.pt and best_f1.pt are one file
            raise SettingValueError(
                f"fitness: two of the goals are called {name}. Give a dict with a name for each: "
                "fitness={'first': …, 'second': …}."
            )
        seen[name.lower()] = name
    return dict(pairs)


def _name(what: Any) -> str:
    """A short name that every file system takes."""
    if callable(what):
        text = getattr(what, "__name__", type(what).__name__)
    else:
        text = re.sub(r"metrics/|\(B\)", "", str(what))
    return re.sub(r"[^\w.-]+", "_", text).strip("_.-")[:LONGEST_NAME] or "goal"


def _measure(what: Any, known: list[str]) -> Callable[[Mapping[str, float]], Any]:
    if not callable(what):
        return Expression(what, known)
    try:
        inspect.signature(what).bind({})
    except ValueError:
        pass  # some built-in functions do not say what they take
    except TypeError:
        raise SettingValueError(
            f"fitness={_name(what)}: the function must take one argument, the metrics of a validation as a dict, and "
            f"return a number; it takes {inspect.signature(what)}."
        ) from None
    measure: Callable[[Mapping[str, float]], Any] = what
    return measure


def _listed(goals: list[tuple[str, str | None]]) -> str:
    return ", ".join(text or f"the function {name}" for name, text in goals) or "the default"
