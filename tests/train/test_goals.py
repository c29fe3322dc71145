from __future__ import annotations

import functools
import logging
import math
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import SettingValueError, TrainingError
from sightline.train.goals import Goals

KNOWN = ["metrics/precision(B)", "metrics/recall(B)", "metrics/mAP50(B)", "val/box_loss"]


def metrics(precision: float = 0.5, recall: float = 0.5, map50: float = 0.5, box: float = 1.0) -> dict[str, float]:
    return dict(zip(KNOWN, [precision, recall, map50, box], strict=True))


def after(goals: Goals, values: dict[str, float], epoch: int) -> Goals:
    """An epoch as the trainer goes through it."""
    goals.begin()
    goals.settle(values, goals.main(values), epoch)
    return goals


def test_without_the_setting_there_is_nothing():
    goals = Goals(None, KNOWN)
    assert not goals
    goals.begin()
    goals.settle(metrics(), 0.5, 1)
    assert goals.columns == {}
    assert goals.state_dict() == []
    assert goals.files_due(Path()) == []


def best_box(values: dict[str, float]) -> float:
    return -values["val/box_loss"]


@pytest.mark.parametrize(
    ("fitness", "columns"),
    [
        ("metrics/mAP50(B)", {"mAP50": 0.7}),
        ("-val/box_loss", {"val_box_loss": -2.0}),
        ("0.9*mAP50 + 0.1*recall", {"0.9_mAP50_0.1_recall": 0.66}),
        (best_box, {"best_box": -2.0}),
        (lambda values: values["metrics/recall(B)"], {"lambda": 0.3}),
        (["mAP50", best_box], {"mAP50": 0.7, "best_box": -2.0}),
        ({"hits": "recall", "both": "min(recall, precision)"}, {"hits": 0.3, "both": 0.1}),
    ],
)
def test_each_goal_has_a_name_and_a_value(fitness: Any, columns: dict[str, float]):
    goals = after(Goals(fitness, KNOWN), metrics(precision=0.1, recall=0.3, map50=0.7, box=2.0), 1)
    assert goals.columns == pytest.approx({f"fitness/{name}": value for name, value in columns.items()})
    assert goals.have_files is isinstance(fitness, list | dict)


def test_each_goal_keeps_its_own_best_and_its_own_file(tmp_path: Path):
    goals = Goals({"hits": "recall", "loss": "-val/box_loss"}, KNOWN)
    written = []
    for epoch, (recall, box) in enumerate([(0.1, 3.0), (0.3, 2.0), (0.2, 1.0), (0.3, 1.0)], start=1):
        after(goals, metrics(recall=recall, box=box), epoch)
        for goal in goals.files_due(tmp_path):
            goals.file(tmp_path, goal).touch()
            goal.written = goal.value
            written.append((epoch, goals.file(tmp_path, goal).name))
    both = ["best_hits.pt", "best_loss.pt"]
    assert written == [(1, both[0]), (1, both[1]), (2, both[0]), (2, both[1]), (3, both[1])]
    assert [(goal.best, goal.best_epoch) for goal in goals] == [(0.3, 2), (-1.0, 3)]
    (tmp_path / "best_hits.pt").unlink()
    assert [goal.name for goal in goals.files_due(tmp_path)] == ["hits"]  # a file that is gone is written again


def test_what_is_no_number_is_no_improvement_and_said_once(caplog: pytest.LogCaptureFixture):
    goals = Goals(["mAP50", "precision/recall"], KNOWN)
    with caplog.at_level(logging.WARNING, logger="sightline"):
        for epoch, recall in enumerate([0.5, 0.0, 0.0, 0.25], start=1):
            after(goals, metrics(recall=recall), epoch)
            assert math.isnan(goals.goals[1].value or 0) == (recall == 0)
    assert [record.message for record in caplog.records if "fitness/precision_recall is no number" in record.message]
    assert len(caplog.records) == 1
    assert "metrics/recall(B) is 0.0" in caplog.records[0].message
    assert (goals.goals[1].best, goals.goals[1].best_epoch) == (2.0, 4)
    goals.begin()
    goals.settle(None, None, 5)  # an epoch without validation
    assert goals.columns == {"fitness/mAP50": None, "fitness/precision_recall": None}


def test_a_fitness_of_the_trainers_own_wins_and_says_so(caplog: pytest.LogCaptureFixture):
    goals = Goals(["mAP50", "recall"], KNOWN)
    with caplog.at_level(logging.WARNING, logger="sightline"):
        after(goals, metrics(), 1)
        assert not caplog.records
        for epoch in (2, 3):
            goals.begin()
            goals.settle(metrics(recall=0.9), 42.0, epoch)
    assert len(caplog.records) == 1
    assert "validate() of the trainer returned a fitness of its own, 42." in caplog.records[0].message
    assert goals.columns == {"fitness/mAP50": 42.0, "fitness/recall": 0.9}


def raises(values: dict[str, float]) -> float:
    return values["no such metric"]


@pytest.mark.parametrize(
    ("fitness", "says"),
    [
        (raises, r"fitness=raises: the function raised KeyError.*metrics/recall\(B\)"),
        (lambda values: None, r"fitness=lambda: the function returned None \(NoneType\)"),
        (lambda values: values, "returned .* It returns one number"),
    ],
)
def test_an_error_in_a_function_names_it(fitness: Any, says: str):
    with pytest.raises(TrainingError, match=says):
        Goals(fitness, KNOWN).main(metrics())


def test_a_function_cannot_change_the_metrics():
    values = metrics()
    Goals(lambda found: found.pop("val/box_loss"), KNOWN).main(values)
    assert values == metrics()
    assert math.isnan(Goals(lambda found: math.inf, KNOWN).main(values))


@pytest.mark.parametrize(
    ("fitness", "says"),
    [
        ("recal", "Did you mean recall"),
        (["recall", "mAP51"], "Did you mean mAP50"),
        (["recall", "metrics/recall(B)"], "two of the goals are called recall"),
        ({"a": "recall", "A": "precision"}, "two of the goals are called A"),
        (lambda: 0.0, "must take one argument"),
        (lambda values, more: 0.0, "must take one argument"),
    ],
)
def test_what_cannot_work_is_an_error_at_the_start(fitness: Any, says: str):
    with pytest.raises(SettingValueError, match=says):
        Goals(fitness, KNOWN)


def test_callable_objects_will_do():
    goals = Goals(functools.partial(lambda weight, values: weight * values["metrics/recall(B)"], 2.0), KNOWN)
    assert after(goals, metrics(recall=0.25), 1).columns == {"fitness/partial": 0.5}


def test_a_resumed_run_goes_on_with_what_is_best():
    before = after(Goals(["mAP50", best_box], KNOWN), metrics(map50=0.9, box=0.5), 3)
    before.goals[0].written = 0.9
    resumed = Goals(["mAP50", best_box], KNOWN)
    resumed.load_state_dict(before.state_dict())
    after(resumed, metrics(map50=0.8, box=0.4), 4)
    assert [(goal.best, goal.best_epoch) for goal in resumed] == [(0.9, 3), (-0.4, 4)]
    assert resumed.goals[0].written == 0.9


@pytest.mark.parametrize("now", [None, "recall", ["mAP50"], ["recall", "mAP50"], ["mAP50", raises]])
def test_other_goals_cannot_go_on(now: Any):
    state = Goals(["mAP50", "recall"], KNOWN).state_dict()
    with pytest.raises(SettingValueError, match="fitness cannot change in a run that goes on"):
        Goals(now, KNOWN).load_state_dict(state)
