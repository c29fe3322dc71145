from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from sightline.callbacks.step_times import STEPS_AT_MOST, StepTimes
from sightline.callbacks.surroundings import object_sides


class Clock:
    """A clock that tests set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def go(self, seconds: float) -> None:
        self.now += seconds


def steps(clock: Clock, count: int, *, accumulate: int = 1) -> dict[str, float]:
    times = StepTimes(torch.device("cpu"), count)
    for number in range(count):
        clock.go(1)
        times.batch_came()
        clock.go(2)
        times.mark("backward")
        clock.go(3)
        times.mark("backward")  # of a second piece of the batch
        clock.go(1)
        if (number + 1) % accumulate == 0:
            times.mark("step")
            clock.go(5)
            times.mark("stepped")
            clock.go(7)  # other callbacks
        times.batch_ended()
    return times.finish()


def test_parts_are_what_they_took(monkeypatch: pytest.MonkeyPatch):
    found = steps(Clock(monkeypatch), 4)
    assert found == {"wait for batches": 4, "forward": 8, "backward": 16, "optimizer": 20}


def test_a_batch_that_only_accumulates_has_no_optimizer(monkeypatch: pytest.MonkeyPatch):
    found = steps(Clock(monkeypatch), 4, accumulate=2)
    assert found == {"wait for batches": 4, "forward": 8, "backward": 16, "optimizer": 10}


def test_a_long_epoch_is_sampled_and_counted_whole(monkeypatch: pytest.MonkeyPatch):
    count = 3 * STEPS_AT_MOST
    assert steps(Clock(monkeypatch), count)["forward"] == pytest.approx(2 * count)


def test_an_epoch_without_steps_took_nothing():
    assert set(StepTimes(torch.device("cpu"), 0).finish().values()) == {0.0}


def test_sides_are_in_pixels_of_the_network_input():
    """A quarter of each side of a 400 × 200 image, shown at 100: 25 × 12.5 pixels."""
    sides = object_sides(np.array([[0.5, 0.5, 0.25, 0.25]]), np.array([[200, 400]]), 100)
    assert sides.tolist() == pytest.approx([(25 * 12.5) ** 0.5])
