"""The study, with trials that take no time: what is chosen, counted, kept and written."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

from sightline.config.load import make_settings
from sightline.errors import SettingValueError, TrainingError
from sightline.tune import results
from sightline.tune.ledger import Ledger, sampler_of, suggest
from sightline.tune.plan import Options, Plan
from sightline.tune.search import continued, run_study
from sightline.tune.space import Choices, Range
from sightline.tune.trial import COMPLETE, FAILED, PRUNED, Outcome, Report

SPACE = {"lr0": Range(0.001, 0.1, log=True), "momentum": Range(0.5, 0.95), "cos_lr": Choices((True, False))}
START = {"lr0": 0.01, "momentum": 0.9, "cos_lr": False}


@pytest.fixture(autouse=True)
def _no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Drawing takes seconds; one test looks at what is drawn."""
    if "left_in_the_folder" not in request.node.name:
        monkeypatch.setattr(results, "plot_history", lambda *_, **__: None)
        monkeypatch.setattr(results, "plot_importance", lambda *_, **__: None)


def plan_in(folder: Path, epochs: int = 4, **options: Any) -> Plan:
    folder.mkdir(parents=True, exist_ok=True)
    settings = make_settings("train", {"model": "yolo26n.yaml", "data": "shapes", "epochs": epochs, "batch": 4})
    plan = Plan(folder, settings, dict(SPACE), Options(**{"trials": 6, **options}), START)
    plan.save()
    return plan


def quality(values: Mapping[str, Any]) -> float:
    """Best at lr0=0.03 and momentum=0.8."""
    return math.exp(-(math.log(values["lr0"] / 0.03) ** 2) - 4 * (values["momentum"] - 0.8) ** 2)


class Trials:
    """Stands for training: rises over the epochs to `quality`, and does what it is told at certain trials."""

    def __init__(self, faults: Mapping[int, Any] | None = None) -> None:
        self.faults = dict(faults or {})
        self.ran: list[dict[str, Any]] = []
        self.folders: list[str] = []

    def __call__(self, plan: Plan, values: Mapping[str, Any], folder: Path, report: Report) -> Outcome:
        fault = self.faults.get(len(self.ran))
        self.ran.append(dict(values))
        self.folders.append(folder.name)
        best = -math.inf
        for epoch in range(plan.settings.epochs):
            if isinstance(fault, BaseException):
                if epoch == 2:
                    raise fault
            elif fault is not None:
                return Outcome(FAILED, math.nan, fault)
            fitness = quality(values) * (epoch + 1) / plan.settings.epochs
            best = max(best, fitness)
            if report(epoch, fitness):
                return Outcome(PRUNED, best)
        return Outcome(COMPLETE, best)


@pytest.mark.parametrize("method", ["tpe", "random", "evolve"])
def test_a_study_ends_with_that_many_trials_and_begins_with_the_settings_as_they_were(method: str, tmp_path: Path):
    trials = Trials()
    result = run_study(plan_in(tmp_path, method=method), trials)
    assert len(trials.ran) == len(result.rows) == 6
    assert trials.ran[0] == START
    assert result.first is result.rows[0]
    assert all(SPACE[name].contains(value) for values in trials.ran for name, value in values.items())
    assert len({tuple(values.items()) for values in trials.ran}) == 6
    best = max((quality(values) for values in trials.ran), default=0.0)
    assert result.best is not None
    assert result.best.fitness == pytest.approx(best)


def search_in_memory(plan: Plan, trials: int) -> list[dict[str, Any]]:
    """What the sampler of the plan chooses, without a file."""
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial(dict(START))
    ran = []
    for number in range(trials):
        study.sampler = sampler_of(plan, number)
        trial = study.ask()
        ran.append({name: suggest(trial, name, dimension) for name, dimension in plan.space.items()})
        study.tell(trial, quality(ran[-1]))
    return ran


@pytest.mark.parametrize("method", ["tpe", "evolve"])
def test_a_search_gets_closer_than_chance(method: str, tmp_path: Path):
    def mean_of_last(method: str) -> float:
        plan = plan_in(tmp_path, method=method, trials=40)
        return sum(map(quality, search_in_memory(plan, 40)[-15:])) / 15

    assert mean_of_last(method) > mean_of_last("random") + 0.15


def test_evolve_changes_the_best(tmp_path: Path):
    ran = search_in_memory(plan_in(tmp_path, method="evolve", trials=60), 60)
    ratios = []
    for number in range(1, 60):
        parents, child = sorted(ran[:number], key=quality, reverse=True)[:5], ran[number]
        assert child not in parents
        assert all(SPACE[name].contains(value) for name, value in child.items())
        # How far from the nearest of the best; a standard deviation is 0.46 in log(lr0).
        ratios.append(min(abs(math.log(child["lr0"] / parent["lr0"])) for parent in parents))
    assert max(ratios) < 2.0
    assert sum(ratio == 0 for ratio in ratios) > 3  # a fifth stays as it is
    assert sum(ratio > 0.1 for ratio in ratios) > 5


@pytest.mark.parametrize("pruner", ["median", "hyperband", "none"])
def test_trials_that_are_behind_end_early_and_count(pruner: str, tmp_path: Path):
    plan = plan_in(tmp_path, epochs=6, method="random", trials=12, grace_period=2, pruner=pruner)
    result = run_study(plan, Trials())
    states = [row.state for row in result.rows]
    assert states.count(COMPLETE) + states.count(PRUNED) == 12
    assert (states.count(PRUNED) >= 3) == (pruner != "none")
    assert all(2 <= row.epochs < 6 for row in result.rows if row.state == PRUNED)
    assert result.best is not None
    assert result.best.state == COMPLETE


def test_an_interrupted_study_makes_the_trials_that_it_would_have_made(tmp_path: Path):
    whole = Trials()
    run_study(plan_in(tmp_path / "whole"), whole)
    cut = Trials({3: KeyboardInterrupt()})
    plan = plan_in(tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        run_study(plan, cut)
    again = Trials()
    result = run_study(continued(plan.folder, {}, {}), again)
    assert len(result.rows) == 6
    assert again.ran == whole.ran[3:]  # the one that was cut, and those after it
    assert again.folders[0] == cut.folders[3]  # it goes on where it lies
    assert [row.values for row in result.rows] == whole.ran


def test_the_epochs_before_an_interrupt_are_known(tmp_path: Path):
    plan = plan_in(tmp_path, epochs=6)
    with pytest.raises(KeyboardInterrupt):
        run_study(plan, Trials({1: KeyboardInterrupt()}))
    ledger = Ledger(plan)
    ticket = ledger.next()
    assert ticket is not None
    assert list(ledger.reported(ticket.number)) == [0, 1]


def test_a_failed_trial_is_recorded_and_the_study_goes_on(tmp_path: Path):
    result = run_study(plan_in(tmp_path), Trials({2: "CUDA out of memory", 4: "the loss is NaN"}))
    assert [(row.state, row.reason) for row in result.rows if row.state == FAILED] == [
        (FAILED, "CUDA out of memory"),
        (FAILED, "the loss is NaN"),
    ]
    with open(tmp_path / "trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (rows[2]["reason"], rows[2]["fitness"]) == ("CUDA out of memory", "")
    assert float(rows[1]["lr0"]) == result.rows[1].values["lr0"]


def test_a_study_in_which_nothing_works_says_why(tmp_path: Path):
    trials = Trials({number: f"no label in file {number}" for number in range(6)})
    with pytest.raises(TrainingError, match=r"The first 3 trials have failed, all alike.*no label in file 0"):
        run_study(plan_in(tmp_path), trials)
    assert len(trials.ran) == 3
    other = Trials({0: "one reason", 1: "another", 2: "a third"})
    assert len(run_study(plan_in(tmp_path / "other"), other).rows) == 6


def test_what_is_left_in_the_folder(tmp_path: Path):
    result = run_study(plan_in(tmp_path, trials=8), Trials())
    assert {"best.yaml", "defaults.yaml", "trials.csv", "history.png", "importance.png", "study.db", "study.json"} <= {
        file.name for file in tmp_path.iterdir()
    }
    told = "\n".join(result.lines())
    best = make_settings("train", cfg=result.best_file)
    assert result.best is not None
    assert {name: getattr(best, name) for name in SPACE} == dict(result.best.values)
    assert (best.model, best.data, best.epochs, best.batch) == ("yolo26n.yaml", "shapes", 4, 4)
    defaults = make_settings("train", cfg=tmp_path / "defaults.yaml")
    assert (defaults.is_user_set("lr0"), defaults.epochs) == (False, 4)
    assert f"sightline compare repeats=3 {tmp_path / 'defaults.yaml'} {tmp_path / 'best.yaml'}" in told
    assert "partly luck" in told


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"trials": 0}, "trials=0 is not allowed"),
        ({"trials": 2.5}, "trials=2.5 is not allowed"),
        ({"method": "grid"}, "method=grid is not allowed. It must be tpe or random or evolve"),
        ({"engine": "slurm"}, "engine=slurm is not allowed"),
        ({"pruner": "asha"}, "pruner=asha is not allowed"),
        ({"parallel": True}, "parallel=True is not allowed"),
        ({"gpu_per_trial": 0.5}, "is for engine=ray"),
        ({"engine": "ray", "gpu_per_trial": -1}, "a number from 0"),
    ],
)
def test_options_are_checked(options: dict[str, Any], says: str):
    with pytest.raises((SettingValueError, TypeError), match=says):
        Options(**options)


def test_what_cannot_change_in_a_study_that_goes_on(tmp_path: Path):
    plan_in(tmp_path)
    for given, changed, says in (
        ({"lr0": 0.1}, {}, "lr0=0.1 with resume"),
        ({}, {"method": "random"}, "begun with method=tpe"),
    ):
        with pytest.raises(SettingValueError, match=says):
            continued(tmp_path, given, changed)
    plan = continued(tmp_path, {"device": "cpu", "data": "shapes"}, {"trials": 20, "parallel": 2})
    assert (plan.settings.device, plan.options.trials, Plan.load(tmp_path).options.parallel) == ("cpu", 20, 2)
