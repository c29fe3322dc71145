"""Patience by hand; a recorded trace is in tests/golden/test_ema.py."""

from __future__ import annotations

import math

import pytest

from sightline.callbacks.early_stop import EarlyStopping


def run(stopper: EarlyStopping, values: list) -> list[bool]:
    return [stopper(epoch, fitness) for epoch, fitness in enumerate(values, start=1)]


def test_patience_counts_from_the_best():
    stopper = EarlyStopping(2)
    assert run(stopper, [0.1, 0.2, 0.15, 0.1]) == [False, False, False, True]
    assert (stopper.best_epoch, stopper.best_fitness) == (2, 0.2)


def test_a_tie_keeps_the_earlier_epoch():
    stopper = EarlyStopping(2)
    assert run(stopper, [0.2, 0.2, 0.2]) == [False, False, True]
    assert stopper.best_epoch == 1


def test_an_epoch_before_the_end_is_announced():
    stopper = EarlyStopping(2)
    run(stopper, [0.2, 0.1])
    assert stopper.possible_stop


@pytest.mark.parametrize("patience", [None, 0])
def test_no_patience_means_no_end(patience):
    assert not any(run(EarlyStopping(patience), [0.5] + [0.0] * 500))


def test_nothing_found_yet_is_not_held_against_a_run():
    assert not any(run(EarlyStopping(3), [0.0] * 20))
    assert run(EarlyStopping(3, count_zero=True), [0.0] * 3) == [False, False, True]


def test_nan_and_no_validation_are_no_improvement():
    stopper = EarlyStopping(2)
    assert run(stopper, [0.2, math.nan, None, math.nan]) == [False, False, False, True]
    assert stopper.best_fitness == 0.2


def test_a_resumed_run_counts_on():
    first = EarlyStopping(2)
    run(first, [0.2, 0.1])
    second = EarlyStopping(2)
    second.load_state_dict(first.state_dict())
    assert second.possible_stop
    assert second(3, 0.1)


def test_fitness_below_zero_counts_like_any_other():
    stopper = EarlyStopping(patience=3)
    assert [stopper(epoch, fitness) for epoch, fitness in enumerate([-5.0, -6.0, -4.0, -4.5, -7.0], start=1)] == [
        False, False, False, False, False,
    ]  # fmt: skip
    assert (stopper.best_fitness, stopper.best_epoch) == (-4.0, 3)
    assert stopper(6, -4.0)
