"""A step that is not finite moves nothing, whatever the optimizer can do."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from sightline.log import LOGGER
from sightline.train.ema import ModelEMA
from sightline.train.guard import StepGuard


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda params: torch.optim.SGD(params, lr=0.1, fused=True),  # gated on the device
        lambda params: torch.optim.Rprop(params, lr=0.1),  # cannot be gated: its gradients are taken away
    ],
    ids=["fused", "plain"],
)
@pytest.mark.parametrize("finite", [True, False])
def test_only_a_finite_step_moves_the_weights(optimizer, finite):
    model, guard = network(), StepGuard()
    step = optimizer(model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.full_like(p, 1.0 if finite else torch.nan)
    guard.gate(step, torch.tensor(1.0 if finite else torch.nan))
    step.step()
    moved = [not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True)]
    assert moved == [finite] * len(before)


def test_statistics_spoiled_by_the_forward_pass_come_back_from_the_average():
    model, guard = network(), StepGuard()
    ema = ModelEMA(model)
    ema.ema[1].running_mean.fill_(0.25)
    model[1].running_mean[2] = torch.inf
    model[1].running_var.fill_(3.0)  # finite: stays what it is
    guard.gate(torch.optim.SGD(model.parameters(), fused=True), torch.tensor(torch.inf))
    guard.heal(model, ema)
    assert model[1].running_mean.tolist() == [0.25] * 4
    assert model[1].running_var.tolist() == [3.0] * 4
    assert (guard.skipped, guard.finite) == (1, None)
    guard.heal(model, ema)  # the verdict is read once
    assert guard.skipped == 1


def test_skipped_steps_are_told_once(caplog):
    guard = StepGuard()
    guard.skipped = 3
    with caplog.at_level(logging.WARNING, logger=LOGGER.name):
        guard.report(epoch=7)
        guard.report(epoch=8)
    assert [record.getMessage()[:18] for record in caplog.records] == ["epoch 7: 3 steps h"]


def test_a_loss_that_is_not_finite_is_seen_where_the_gradient_is_fine():
    model, guard = network(), StepGuard()
    guard.watch(torch.tensor(torch.nan), 4)
    guard.watch(torch.tensor(8.0), 4)  # the next batch of the same step does not cover it up
    guard.gate(torch.optim.SGD(model.parameters(), fused=True), torch.tensor(1.0))
    assert not guard.finite
    verdict = guard.read()
    assert (verdict.finite, verdict.spike, verdict.good) == (False, False, False)
    assert (guard.nan_row, guard.skipped) == (1, 1)


def steps(guard: StepGuard, losses: list[float], factor: float = 10.0) -> list[bool]:
    """Whether each step was allowed to move something."""
    optimizer = torch.optim.SGD(network().parameters(), fused=True)
    moved = []
    for loss in losses:
        guard.watch(torch.tensor(loss * 4), 4)
        guard.gate(optimizer, torch.tensor(1.0), spike_factor=factor)
        moved.append(bool(guard.finite))
        guard.read()
    return moved


def test_a_spike_is_a_loss_far_above_the_median_of_those_before_it():
    guard = StepGuard()
    falling = [100.0 / (i + 1) for i in range(25)]  # median 100 / 13
    assert all(steps(guard, falling))
    assert guard.level.median() == pytest.approx(100 / 13)
    assert steps(guard, [76.0, 81.0, 1e6]) == [True, False, False]  # 76 joined in: median (100/13 + 100/12) / 2
    assert (guard.spikes, guard.spike_row, guard.skipped) == (2, 2, 0)
    assert steps(guard, [5.0]) == [True]
    assert guard.spike_row == 0
    assert steps(guard, [1e6], factor=0.0) == [True]  # off


def test_the_first_losses_of_a_run_are_never_spikes():
    assert all(steps(StepGuard(), [1.0] * 19 + [1000.0]))


def test_what_waits_is_saved_with_the_rest():
    """A verdict that nobody has read yet, as between two batches: the other guard goes on as this one would."""
    first, second = StepGuard(), StepGuard()
    steps(first, [1.0] * 30)
    optimizer = torch.optim.SGD(network().parameters(), fused=True)
    first.watch(torch.tensor(50.0), 1)
    first.gate(optimizer, torch.tensor(1.0), spike_factor=10)
    first.watch(torch.tensor(3.0), 1)
    second.load_state_dict(first.state_dict())
    for guard in (first, second):
        verdict = guard.read()
        assert verdict.spike
        assert verdict.limit == 10
        guard.gate(optimizer, torch.tensor(1.0), spike_factor=2)  # 3 > 2 × 1: the loss that was watched counts
        assert not guard.finite
    assert first.state_dict() == second.state_dict()


def test_other_gains_begin_a_new_level():
    guard = StepGuard()
    guard.level.follow((7.5, 0.5, 1.5))
    assert all(steps(guard, [1.0] * 30))
    twin = StepGuard()
    twin.load_state_dict(guard.state_dict())
    for each in (guard, twin):
        each.level.follow((7.5, 0.5, 1.5))
        assert each.level.median() == 1.0
        each.level.follow((75.0, 0.5, 1.5))
        assert each.level.median() is None
        assert steps(each, [20.0]) == [True]


def test_events_are_told_as_they_come():
    told = []
    guard = StepGuard(lambda kind, **facts: told.append((kind, facts)))
    guard.note("rollback", epoch=2, step=7, reason="a weight is not finite")
    assert told == [("rollback", {"epoch": 3, "step": 7, "reason": "a weight is not finite"})]
    assert [event["kind"] for event in guard.events] == ["rollback"]
