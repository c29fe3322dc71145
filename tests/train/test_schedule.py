"""The schedule by hand-worked numbers; whole traces are in tests/golden/test_schedule.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sightline.train.lr_shapes import LrShape, cosine_factor, linear_factor
from sightline.train.schedule import (
    Schedule,
    accumulation_target,
    ramp,
    scaled_weight_decay,
    warmup_iterations,
)


def optimizer() -> torch.optim.Optimizer:
    layer = nn.Linear(1, 1)
    groups = [{"params": [layer.weight], "param_group": "weight"}, {"params": [layer.bias], "param_group": "bias"}]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.5)


def test_factors_start_at_one_and_end_at_lrf():
    for factor in (linear_factor, cosine_factor):
        assert factor(0, 10, 0.2) == pytest.approx(1)
        assert factor(5, 10, 0.2) == pytest.approx(0.6)
        assert factor(10, 10, 0.2) == pytest.approx(0.2)
    assert linear_factor(11, 10, 0.2) == 0.2


@pytest.mark.parametrize(("batch", "target"), [(1, 64), (16, 4), (40, 2), (48, 1), (64, 1), (200, 1)])
def test_accumulation(batch, target):
    assert accumulation_target(batch, 64) == target


@pytest.mark.parametrize("batch", [1, 7, 16, 40, 48, 64, 100, 256])
def test_decay_per_image_is_the_same_at_any_batch(batch):
    images_in_step = batch * accumulation_target(batch, 64)
    assert scaled_weight_decay(5e-4, batch, 64) / images_in_step == pytest.approx(5e-4 / 64)


def test_weights_come_to_rest_at_the_same_place_at_any_batch():
    """Decay that follows the images keeps its balance with a gradient that is a sum over images."""

    def resting_place(batch: int) -> float:
        decay = scaled_weight_decay(0.01, batch, 64)
        weight, images = 0.0, batch * accumulation_target(batch, 64)
        for _ in range(200_000 // images):
            weight -= 0.01 * (images / 64 * (weight - 1.0) * 0.1 + decay * weight)  # pulls towards 1
        return weight

    places = [resting_place(batch) for batch in (8, 40, 48, 64, 128)]
    assert max(places) - min(places) < 1e-3


def test_warmup_leaves_the_last_epoch_alone():
    assert warmup_iterations(100, 3.0, 10) == 30
    assert warmup_iterations(2, 3.0, 10) == 10
    assert warmup_iterations(1, 3.0, 10) == 0
    assert warmup_iterations(100, 0, 10) == 0


def test_ramp_is_numpys_interpolation():
    for iteration in (-1, 0, 0.5, 3, 7, 8):
        assert ramp(iteration, 7, 2.0, -1.0) == pytest.approx(np.interp(iteration, [0, 7], [2.0, -1.0]))


def test_values_of_a_short_warmup():
    schedule = Schedule(
        optimizer(),
        epochs=4,
        batches=2,
        accumulate=3,
        momentum=0.9,
        warmup_epochs=1,
        warmup_momentum=0.7,
        shape=LrShape(lrf=0.0),
    )
    weight, bias = schedule.optimizer.param_groups
    schedule.at_epoch_start(0)
    assert schedule.at_iteration(0, 0) == 1
    assert (weight["lr"], bias["lr"], weight["momentum"]) == pytest.approx((0.0, 0.1, 0.7))
    assert schedule.at_iteration(1, 0) == 2
    assert (weight["lr"], bias["lr"], weight["momentum"]) == pytest.approx((0.05, 0.1, 0.8))
    schedule.at_epoch_start(1)
    assert schedule.at_iteration(2, 1) == 3
    assert (weight["lr"], bias["lr"], weight["momentum"]) == pytest.approx((0.075, 0.075, 0.9))
    schedule.at_epoch_start(3)
    assert schedule.at_iteration(7, 3) == 3
    assert weight["lr"] == pytest.approx(0.025)


def test_accumulation_is_cut_to_the_run_unless_time_is_the_budget():
    assert Schedule(optimizer(), epochs=1, batches=2, accumulate=16).accumulate == 2
    assert Schedule(optimizer(), epochs=1, batches=2, accumulate=16, fixed_time=True).accumulate == 16


def test_replanning_moves_the_whole_curve():
    schedule = Schedule(optimizer(), epochs=10, batches=5, shape=LrShape(lrf=0.0))
    schedule.replan(20)
    schedule.at_epoch_start(5)
    assert schedule.get_last_lr() == pytest.approx([0.075, 0.075])
    assert schedule.warmup == 15


def test_a_resumed_schedule_goes_on():
    whole, first = (Schedule(optimizer(), epochs=4, batches=2, accumulate=4, warmup_epochs=1) for _ in range(2))
    for epoch in range(2):
        for schedule in (whole, first):
            schedule.at_epoch_start(epoch)
            for iteration in range(2 * epoch, 2 * epoch + 2):
                schedule.at_iteration(iteration, epoch)
    resumed = Schedule(optimizer(), epochs=4, batches=2, accumulate=4, warmup_epochs=1)
    resumed.optimizer.load_state_dict(first.optimizer.state_dict())
    resumed.load_state_dict(first.state_dict())
    assert resumed.last_epoch == 1
    for schedule in (whole, resumed):
        schedule.at_epoch_start(2)
    assert [s.at_iteration(5, 2) for s in (whole, resumed)] == [4, 4]
    assert whole.get_last_lr() == resumed.get_last_lr()


def test_it_looks_like_a_scheduler_of_torch():
    schedule = Schedule(optimizer(), epochs=4, batches=2, warmup_epochs=0)
    schedule.step()
    assert schedule.last_epoch == 0
    assert schedule.get_last_lr() == pytest.approx([0.1, 0.1])
