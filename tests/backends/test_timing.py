"""Stages add up and are shared among the images."""

from __future__ import annotations

import time

import pytest
import torch

from sightline.backends.timing import StageTimer


def test_stages_add_up(monkeypatch: pytest.MonkeyPatch):
    clock = iter([0.0, 0.010, 0.5, 0.520, 1.0, 1.014, 2.0, 2.002])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    timer = StageTimer(torch.device("cpu"), ("load", "run", "idle"))
    for _ in range(2):
        with timer.stage("load"):
            pass
        with timer.stage("run", waits=True):
            pass
    speed = timer.milliseconds_per(4)
    assert list(speed) == ["load", "run", "idle"]
    assert speed == pytest.approx({"load": 6.0, "run": 5.5, "idle": 0.0})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_queued_work_counts_for_the_stage_that_queued_it():
    device = torch.device("cuda", 0)
    a = torch.randn(4096, 4096, device=device)
    timer = StageTimer(device, ("queue", "wait"))
    with timer.stage("queue"):
        for _ in range(20):
            a @ a
    with timer.stage("wait", waits=True):
        a.sum().item()
    speed = timer.milliseconds_per(1)
    assert speed["queue"] > speed["wait"]
