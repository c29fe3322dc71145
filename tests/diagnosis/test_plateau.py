"""A plateau: the rules, the countdown behind them, and what a restart resets."""

from __future__ import annotations

import pytest

from sightline.config.limits import Limits
from sightline.diagnosis.course import stagnation, val_plateau
from sightline.diagnosis.history import Epoch, History, Setup
from sightline.diagnosis.plateau import plateau

LIMITS = Limits.named({"plateau_epochs": 4, "stagnation_epochs": 6, "stagnation_countdown": 3})


def history(scores: list[float], losses: list[float] | None = None) -> History:
    losses = losses or [10.0 - i for i in range(len(scores))]
    epochs = [
        Epoch(i + 1, map=score, val_loss={"box": loss})
        for i, (score, loss) in enumerate(zip(scores, losses, strict=True))
    ]
    return History(Setup(epochs=100), epochs)


def test_the_issue_s_own_numbers_are_the_defaults():
    limits = Limits()
    assert (limits.plateau_epochs, limits.plateau_std) == (50, 0.001)
    assert (limits.stagnation_epochs, limits.stagnation_gain) == (100, 0.005)
    assert limits.grad_norm == 1000


@pytest.mark.parametrize(("gain", "speaks"), [(0.0049, True), (0.0051, False)])
def test_stagnation_compares_the_best_of_the_window_with_the_best_before(gain: float, speaks: bool):
    scores = [0.1, 0.5, *[0.3] * 99, 0.5 + gain]
    found = stagnation(history(scores), Limits())
    assert (found is not None) == speaks


def test_stagnation_needs_more_epochs_than_its_window():
    assert stagnation(history([0.5] * 100), Limits()) is None
    assert stagnation(history([0.5] * 101), Limits()) is not None


@pytest.mark.parametrize(("spread", "speaks"), [(0.0009, True), (0.0011, False)])
def test_the_spread_of_the_validation_loss_is_its_standard_deviation(spread: float, speaks: bool):
    losses = [3.0 + (spread if i % 2 else -spread) for i in range(50)]  # whose standard deviation is `spread`
    found = val_plateau(history([0.0] * 50, losses), Limits())
    assert (found is not None) == speaks


def test_the_countdown_runs_while_nothing_moves_and_then_says_now():
    seen = [plateau(history([0.5] * count), LIMITS) for count in range(6, 12)]
    assert [None if found is None else found.countdown for found in seen] == [None, 3, 2, 1, 0, 0]


def test_a_gain_stops_the_countdown():
    assert plateau(history([*[0.5] * 8, 0.6]), LIMITS) is None


def test_after_a_restart_the_windows_begin_anew():
    scores = [0.5] * 20
    assert plateau(history(scores), LIMITS).countdown == 0
    assert plateau(history(scores), LIMITS, since=14) is None  # six epochs since
    assert plateau(history(scores), LIMITS, since=13).countdown == 3
