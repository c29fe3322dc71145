"""`optimizer=auto` fills what nobody set, and nothing else."""

from __future__ import annotations

import math

import pytest

from sightline.config.load import make_settings
from sightline.train import recipe


def filled(batches: int = 13, **settings):
    made = make_settings("train", settings)
    recipe.fill_automatic(made, batches=batches, nc=3)
    return made


def test_a_short_run_steps_on_every_batch():
    settings = filled()
    assert (settings.optimizer, settings.lr0, settings.momentum, settings.nbs) == ("MuSGD", 0.01, 0.9, 16)
    assert settings.origin("nbs") == "auto"


def test_the_average_of_a_short_run_looks_back_over_a_twentieth_of_it():
    settings = filled()  # 1,300 steps
    last_decay = settings.ema_decay * (1 - math.exp(-1300 / settings.ema_tau))
    assert 1 / (1 - last_decay) == pytest.approx(0.05 * 1300, rel=0.05)
    assert filled(ema_tau=500).ema_tau == 500


def test_a_long_run_keeps_the_nominal_batch():
    settings = filled(batches=7393)
    assert (settings.nbs, settings.ema_tau) == (64, 2000)


def test_what_the_user_set_stays():
    settings = filled(lr0=0.02, momentum=0.8, nbs=48, warmup_bias_lr=0.05)
    assert (settings.lr0, settings.momentum, settings.nbs, settings.warmup_bias_lr) == (0.02, 0.8, 48, 0.05)


def test_a_named_optimizer_leaves_everything_alone():
    settings = filled(optimizer="SGD")
    assert (settings.optimizer, settings.momentum, settings.nbs) == ("SGD", 0.937, 64)
    assert settings.origin("lr0") == "default"


def test_auto_written_by_the_user_is_still_automatic():
    assert filled(optimizer="auto").optimizer == "MuSGD"
