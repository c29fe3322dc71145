"""The curves of the learning rate against closed formulas written out here, and against torch's own schedulers."""

from __future__ import annotations

import math

import pytest
import torch

from sightline.train.lr_shapes import LrShape

KINDS = ("linear", "cosine", "onecycle", "constant", "step", "warm_restarts")


def curve(shape: LrShape, epochs: int) -> list[float]:
    return [shape.factor(epoch, epochs) for epoch in range(epochs)]


def torch_rates(make, steps: int, lr: float = 1.0) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("linear", lambda e: 1 - 0.9 * e / 12),
        ("cosine", lambda e: 0.1 + 0.9 * (1 + math.cos(math.pi * e / 12)) / 2),
        ("constant", lambda e: 1.0),
        ("step", lambda e: 1.0 if e < 8 else 0.1**0.5 if e < 11 else 0.1),  # 2/3 and 8/9 of 12
        ("onecycle", lambda e: 0.52 - 0.48 * math.cos(math.pi * e / 3.6) if e < 3.6
         else 0.55 + 0.45 * math.cos(math.pi * (e - 3.6) / 8.4)),
        ("warm_restarts", lambda e: 0.1 + (0.5 ** (e // 4) - 0.1) * (1 + math.cos(math.pi * (e % 4) / 4)) / 2),
    ],
)  # fmt: skip
def test_every_scheduler_is_its_formula(kind, formula):
    at = [0, 1, 3, 3.5, 4, 7.999, 8, 10.5, 11, 11.999]
    shape = LrShape(kind, lrf=0.1)
    assert [shape.factor(e, 12) for e in at] == pytest.approx([formula(e) for e in at])


def test_all_kinds_are_tested_and_end_where_lrf_says():
    for kind in KINDS:
        assert LrShape(kind, lrf=0.02).factor(100 - 1e-9, 100) == pytest.approx(1 if kind == "constant" else 0.02)
        assert all(0.02 <= factor <= 1 for factor in curve(LrShape(kind, lrf=0.02), 100))


def test_onecycle_is_torchs_own():
    epochs, lrf = 20, 0.01
    # torch places the last point of its curve at the last step, we at the end of the run, one later.
    reference = torch_rates(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, max_lr=1.0, total_steps=epochs + 1, pct_start=(0.3 * epochs + 1) / (epochs + 1), div_factor=25,
            final_div_factor=1 / (25 * lrf), cycle_momentum=False,
        ),
        epochs,
    )  # fmt: skip
    assert curve(LrShape("onecycle", lrf=lrf), epochs) == pytest.approx(reference)


def test_step_is_torchs_multi_step():
    reference = torch_rates(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [6, 9], gamma=0.1), 12)
    assert curve(LrShape("step", lrf=0.01, step_epochs=(6, 9)), 12) == pytest.approx(reference)
    assert curve(LrShape("step", lrf=0.01, step_epochs=(0.75, 0.5)), 12) == pytest.approx(reference)


def test_warm_restarts_are_torchs_where_peaks_do_not_shrink():
    reference = torch_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=5, eta_min=0.03), 17)
    shape = LrShape("warm_restarts", lrf=0.03, restart_epoch=5, restart_factor=1.0)
    # The last cycle is cut to the end of the run, so that it, too, comes down.
    assert curve(shape, 17)[:15] == pytest.approx(reference[:15])
    assert shape.restarts(17) == [5, 10, 15]
    assert shape.factor(16, 17) == pytest.approx((1 + 0.03) / 2)


def test_a_restart_with_decay():
    """restart_epoch=300 restart_factor=0.5 restart_decay=0.95 of a run of 600 epochs."""
    shape = LrShape("cosine", lrf=0.01, restart_epoch=300, restart_factor=0.5, restart_decay=0.95)
    assert shape.factor(0, 600) == 1
    assert shape.factor(299, 600) == pytest.approx(0.01 + 0.99 * (1 + math.cos(math.pi * 299 / 300)) / 2)
    for epoch in (300, 301, 310, 450.5):
        assert shape.factor(epoch, 600) == pytest.approx(0.5 * 0.95 ** (epoch - 300))


def test_repeated_restarts_begin_at_powers_and_come_down_to_the_same_end():
    shape = LrShape("linear", lrf=0.1, restart_epoch=(40, 20), restart_factor=0.5)
    peaks = [shape.factor(epoch, 60) for epoch in (0, 20, 40)]
    assert peaks == [1, 0.5, 0.25]
    ends = [shape.factor(epoch - 1e-9, 60) for epoch in (20, 40, 60)]
    assert ends == pytest.approx([0.1] * 3)
    assert shape.factor(30, 60) == pytest.approx(0.3)  # half of the way from 0.5 to 0.1
    decayed = LrShape("linear", lrf=0.1, restart_epoch=(20, 40), restart_factor=0.5, restart_decay=0.9)
    assert decayed.factor(41, 60) == pytest.approx(0.25 * 0.9)


def test_a_peak_below_the_end_does_not_rise():
    shape = LrShape("cosine", lrf=0.3, restart_epoch=(10, 20), restart_factor=0.5)
    assert curve(shape, 30)[20:] == pytest.approx([0.25] * 10)


@pytest.mark.parametrize("kind", KINDS)
def test_restarts_work_with_every_scheduler(kind):
    shape = LrShape(kind, lrf=0.04, restart_epoch=0.5, restart_factor=0.5)
    assert shape.restarts(40) == [20]
    alone = LrShape(kind if kind != "warm_restarts" else "cosine", lrf=0.04)
    again = LrShape(kind if kind != "warm_restarts" else "cosine", lrf=0.08)  # 0.04 as a part of the peak 0.5
    for epoch in range(20):
        assert shape.factor(epoch, 40) == pytest.approx(alone.factor(epoch, 20))
        assert shape.factor(20 + epoch, 40) == pytest.approx(0.5 * again.factor(epoch, 20))


@pytest.mark.parametrize("epochs", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_short_runs_have_a_curve(kind, epochs):
    for shape in (LrShape(kind), LrShape(kind, restart_epoch=1), LrShape(kind, restart_epoch=0.5)):
        factors = [shape.factor(step / 4, epochs) for step in range(epochs * 4)]
        assert all(math.isfinite(factor) and 0 < factor <= 1 for factor in factors)


def test_restarts_and_drops_outside_of_the_run_do_not_count():
    assert LrShape("cosine", restart_epoch=300).restarts(200) == []
    assert curve(LrShape("cosine", restart_epoch=300), 200) == curve(LrShape("cosine"), 200)
    assert LrShape("step", step_epochs=(60, 120)).drops(0, 100) == [60]


def test_what_does_not_depend_on_the_length_stays_when_a_run_is_extended():
    shapes = (
        LrShape("constant"),
        LrShape("step", step_epochs=(10, 30)),
        LrShape("warm_restarts", restart_epoch=10),
        LrShape("linear", restart_epoch=10, restart_decay=0.9),
    )
    for shape in shapes:
        assert curve(shape, 40)[:20] == curve(shape, 20)


def test_the_log_says_what_it_is():
    shape = LrShape("cosine", restart_epoch=(100, 200), restart_decay=0.95)
    assert shape.describe(300) == (
        "cosine to 0.01 of the initial rate, restarts after 100, 200 epochs at ×0.5, 0.25, then ×0.95 an epoch"
    )
    assert LrShape("step").describe(90) == "step to 0.01 of the initial rate, drops after 60, 80 epochs"
    assert "restarts after 10, 20, …, 90 epochs" in LrShape("warm_restarts", restart_epoch=10).describe(100)
