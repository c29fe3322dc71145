"""Pictures of a search: what is drawn where there is something, and what is said where there is nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import pytest

from sightline.artifacts.figures import tuning
from sightline.artifacts.figures.style import logarithmic, new_figure

TRIALS = [
    (0, "complete", 0.3, {0: 0.1, 1: 0.3}),
    (1, "failed", math.nan, {}),
    (2, "pruned", 0.1, {0: 0.1}),
    (3, "complete", 0.5, {0: 0.2, 1: 0.5}),
    (4, "running", 0.9, {0: 0.9}),
]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures as they are saved."""
    figures: list[Any] = []
    usual = tuning.save_figure
    monkeypatch.setattr(tuning, "save_figure", lambda figure, file: figures.append(figure) or usual(figure, file))
    return figures


def test_the_best_so_far_counts_trials_that_ran_to_their_end(drawn: list[Any], tmp_path: Path):
    tuning.plot_history(TRIALS, tmp_path / "history.png", start=0.3)
    left, right = drawn[0].axes
    lines = {line.get_label(): line for line in left.lines}
    assert list(lines["best so far"].get_ydata()) == [0.3, 0.3, 0.5, 0.5]
    assert list(lines["settings as they were"].get_ydata()) == [0.3, 0.3]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["best, trial 3"]
    assert cv2.imread(str(tmp_path / "history.png")) is not None


def test_a_study_without_any_result_says_so(drawn: list[Any], tmp_path: Path):
    tuning.plot_history([(0, "failed", math.nan, {})], tmp_path / "history.png")
    tuning.plot_importance({}, {"lr0": []}, [], tmp_path / "importance.png", whole=[])
    words = [text.get_text() for figure in drawn for axes in figure.axes for text in axes.texts]
    assert words == ["no trial has a fitness"] * 2 + ["too few complete trials\nto tell what matters"]


def test_the_most_important_come_first(drawn: list[Any], tmp_path: Path):
    values = {"cos_lr": [True, False], "lr0": [0.01, 0.02], **{f"x{i}": [1.0, 2.0] for i in range(9)}}
    tuning.plot_importance(
        {"lr0": 0.7, "cos_lr": 0.3}, values, [0.1, 0.2], tmp_path / "i.png", whole=[True, False], log=["lr0"]
    )
    bars, first, second, *rest = drawn[0].axes
    assert [label.get_text() for label in bars.get_yticklabels()] == ["cos_lr", "lr0"]
    assert (first.get_title(), first.get_xscale(), second.get_title()) == ("lr0", "log", "cos_lr")
    assert len([axes for axes in rest if axes.get_title()]) == tuning.MOST_SETTINGS - 2


@pytest.mark.parametrize(
    ("values", "shown"), [([0.17, 1.5], ["0.2", "0.5", "1"]), ([0.002, 0.09], ["0.003", "0.01", "0.03", "0.1"])]
)
def test_a_logarithmic_axis_of_one_decade_has_plain_labels(values: list[float], shown: list[str]):
    """matplotlib's own are 2×10⁻¹, 3×10⁻¹, … over each other."""
    figure, places = new_figure(1, 1, size=(3, 3))
    axes = places[0, 0]
    axes.scatter(values, [0, 1])
    logarithmic(axes, values)
    figure.canvas.draw()
    low, high = axes.get_xlim()
    labels = [text.get_text() for text in axes.get_xticklabels() if low <= text.get_position()[0] <= high]
    assert labels == shown
    assert not any(text.get_text() for text in axes.get_xticklabels(minor=True))
