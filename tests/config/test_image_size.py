"""Rounding beyond the recorded cases (tests/golden/test_config_cli.py)."""

from __future__ import annotations

import logging

import pytest

from sightline.config.image_size import fit_imgsz, round_imgsz
from sightline.config.settings import Settings


@pytest.mark.parametrize("stride", [8, 32, 64])
def test_the_result_is_the_smallest_multiple_that_fits(stride: int):
    for size in range(1, 200):
        candidates = [stride * n for n in range(1, 60) if stride * n >= size]
        assert round_imgsz(size, stride) == candidates[0]


def test_fitting_says_so_and_keeps_the_origin(caplog):
    settings = Settings()
    settings.assign("imgsz", [300, 200], origin="command line")
    with caplog.at_level(logging.WARNING, logger="sightline"):
        assert fit_imgsz(settings, 32, max_dim=1) == 320
    assert (settings.imgsz, settings.origin("imgsz")) == (320, "command line")
    assert "imgsz=[300, 200] becomes 320" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="sightline"):
        assert fit_imgsz(settings, 32) == 320
    assert not caplog.text


def test_a_default_stays_a_default():
    settings = Settings()
    assert fit_imgsz(settings, 100) == 700
    assert not settings.is_user_set("imgsz")
