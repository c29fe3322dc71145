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
    guard.gate(step, torch.tensor(finite))
    step.step()
    moved = [not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True)]
    assert moved == [finite] * len(before)


def test_statistics_spoiled_by_the_forward_pass_come_back_from_the_average():
    model, guard = network(), StepGuard()
    ema = ModelEMA(model)
    ema.ema[1].running_mean.fill_(0.25)
    model[1].running_mean[2] = torch.inf
    model[1].running_var.fill_(3.0)  # finite: stays what it is
    guard.finite = torch.tensor(False)
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
