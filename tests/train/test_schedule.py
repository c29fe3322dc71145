"""The schedule by hand-worked numbers; whole traces are in tests/golden/test_schedule.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sightline.config.load import make_settings
from sightline.train.lr_shapes import LrShape, cosine_factor, linear_factor
from sightline.train.schedule import (
    Schedule,
    accumulation_target,
    lr_scale,
    ramp,
    scaled_weight_decay,
    warmup_batches,
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


KINDS = ("linear", "cosine", "onecycle", "constant", "step", "warm_restarts")


def trace(schedule: Schedule, first: int, last: int) -> list[tuple]:
    """What holds at each batch of the epochs from `first` to before `last`."""
    rows = []
    for epoch in range(first, last):
        schedule.at_epoch_start(epoch)
        for iteration in range(epoch * schedule.batches, (epoch + 1) * schedule.batches):
            accumulate = schedule.at_iteration(iteration, epoch)
            groups = schedule.optimizer.param_groups
            rows.append((accumulate, *(group["lr"] for group in groups), groups[0]["momentum"]))
    return rows


@pytest.mark.parametrize(
    ("kind", "batch", "factor"),
    [
        ("none", 128, 1.0), ("linear", 128, 2.0), ("linear", 16, 0.25), ("sqrt", 256, 2.0), ("sqrt", 16, 0.5),
        ("linear", 64, 1.0),
    ],
)  # fmt: skip
def test_learning_rates_in_proportion_to_the_batch(kind, batch, factor):
    assert lr_scale(kind, batch, 64, 1.0) == factor
    damped = 0.9 if kind != "none" and batch > 64 else 1.0  # only where the rate rises
    assert lr_scale(kind, batch, 64, 0.9) == pytest.approx(factor * damped)


def test_explicit_accumulation_holds_from_the_first_step():
    schedule = Schedule(optimizer(), epochs=3, batches=4, accumulate=3, explicit=True, warmup_epochs=2)
    assert {row[0] for row in trace(schedule, 0, 3)} == {3}
    assert Schedule(optimizer(), epochs=1, batches=2, accumulate=16, explicit=True).accumulate == 16


@pytest.mark.parametrize("kind", KINDS)
def test_with_every_batch_the_curve_is_followed_within_an_epoch(kind):
    shape = LrShape(kind, lrf=0.05)
    schedule = Schedule(optimizer(), epochs=6, batches=5, shape=shape, per_iteration=True, warmup_epochs=0)
    rates = [row[1] for row in trace(schedule, 0, 6)]
    assert rates == pytest.approx([0.1 * shape.factor(iteration / 5, 6) for iteration in range(30)])
    by_epoch = Schedule(optimizer(), epochs=6, batches=5, shape=shape, warmup_epochs=0)
    assert rates[::5] == pytest.approx([row[1] for row in trace(by_epoch, 0, 6)][::5])


def test_no_rate_falls_below_lr_min_after_the_warm_up():
    made = optimizer()
    made.param_groups[1].update(lr=0.01, lr_factor=0.1)  # a group with a tenth of the rate has a tenth of the floor
    schedule = Schedule(made, epochs=10, batches=2, shape=LrShape(lrf=0.0), lr_min=0.045, warmup_epochs=1)
    rows = trace(schedule, 0, 10)
    assert rows[0][1] == 0  # the warm-up starts where it starts
    lines = [0.1 * (1 - epoch / 10) for epoch in range(1, 10)]
    assert [row[1] for row in rows[4::2]] == pytest.approx([max(rate, 0.045) for rate in lines[1:]])
    assert [row[2] for row in rows[4::2]] == pytest.approx([max(rate, 0.045) / 10 for rate in lines[1:]])


def test_a_floor_above_the_initial_rate_does_not_lift_it():
    schedule = Schedule(optimizer(), epochs=10, batches=2, lr_min=0.5, warmup_epochs=0)
    assert {row[1] for row in trace(schedule, 0, 10)} == {0.1}


def test_a_warm_up_in_steps_counts_full_steps():
    schedule = Schedule(
        optimizer(), epochs=4, batches=5, accumulate=3, shape=LrShape("constant"), momentum=0.9, warmup_steps=2,
        warmup_momentum=0.5, warmup_start_factor=0.25, warmup_bias_lr=0.4,
    )  # fmt: skip
    rows = trace(schedule, 0, 4)
    done = [min(iteration / 6, 1) for iteration in range(20)]  # 2 steps of 3 batches
    assert {row[0] for row in rows} == {3}
    assert [row[1] for row in rows] == pytest.approx([0.025 + part * 0.075 for part in done])
    assert [row[2] for row in rows] == pytest.approx([0.4 - part * 0.3 for part in done])
    assert [row[3] for row in rows] == pytest.approx([0.5 + part * 0.4 for part in done])


def test_length_of_the_warm_up_from_settings():
    assert warmup_batches(make_settings("train", {"warmup_epochs": 2}), 100, 7) == 14
    assert warmup_batches(make_settings("train", {"warmup_steps": 5, "accumulate": 4}), 100, 7) == 20
    assert warmup_batches(make_settings("train", {"warmup_steps": 5, "batch": 16}), 100, 7) == 20  # 64 / 16
    assert warmup_batches(make_settings("train", {"warmup_steps": 0}), 100, 7) == 0


@pytest.mark.parametrize("per_iteration", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_extended_on_resume_goes_on_as_the_longer_one(kind, per_iteration):
    """Both the schedule's own curve and, from the epoch of the resume on, every number of the groups."""

    shape = LrShape(kind, restart_epoch=None if kind == "constant" else 0.75)

    def made(epochs: int) -> Schedule:
        return Schedule(
            optimizer(), epochs=epochs, batches=3, accumulate=2, explicit=True, shape=shape,
            per_iteration=per_iteration, warmup_epochs=1, lr_min=0.002,
        )  # fmt: skip

    short, long, resumed = made(8), made(20), made(20)
    trace(short, 0, 8)
    resumed.optimizer.load_state_dict(short.optimizer.state_dict())
    resumed.load_state_dict(short.state_dict())
    assert trace(resumed, 8, 20) == trace(long, 0, 20)[24:]
    said = made(20).change_since(short.state_dict())
    assert ("epochs=20, before 8" in said) == (kind != "constant")
    assert short.change_since(short.state_dict()) == ""


def test_a_resumed_schedule_is_the_same_at_every_batch():
    def made() -> Schedule:
        return Schedule(
            optimizer(), epochs=6, batches=3, accumulate=4, shape=LrShape("cosine", restart_epoch=3), warmup_epochs=2
        )

    whole = trace(made(), 0, 6)
    for epoch in range(1, 6):
        first, second = made(), made()
        trace(first, 0, epoch)
        second.optimizer.load_state_dict(first.optimizer.state_dict())
        second.load_state_dict(first.state_dict())
        assert trace(second, epoch, 6) == whole[3 * epoch :]


def test_a_warm_up_that_is_shorter_on_resume_does_not_leave_its_momentum_behind():
    first = Schedule(optimizer(), epochs=9, batches=3, warmup_epochs=5, momentum=0.9, warmup_momentum=0.5)
    trace(first, 0, 2)
    second = Schedule(optimizer(), epochs=9, batches=3, warmup_epochs=1, momentum=0.9)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert second.optimizer.param_groups[0]["momentum"] < 0.9
    second.load_state_dict(first.state_dict())
    assert trace(second, 2, 3)[0][3] == 0.9


def test_a_changed_setting_is_followed_with_all_that_hangs_on_it():
    settings = make_settings("train", {"epochs": 10, "batch": 16, "accumulate": 2, "warmup_epochs": 0})
    schedule = Schedule.from_settings(optimizer(), settings, batches=3)
    trace(schedule, 0, 2)
    settings.lr_min, settings.scheduler, settings.accumulate = 0.07, "step", 5
    settings.lr_scale, settings.lr_base_batch, settings.scheduler_step = "linear", 8, "iteration"
    schedule.follow(settings)
    rows = trace(schedule, 2, 10)
    assert {row[0] for row in rows} == {5}
    assert rows[0][1] == pytest.approx(0.2)  # lr0 0.1 × 16 / 8
    assert rows[-1][1] == 0.07  # 0.2 × 0.01 is below
    settings.lr_scale = "none"
    schedule.follow(settings)
    assert schedule.optimizer.param_groups[0]["initial_lr"] == pytest.approx(0.1)
