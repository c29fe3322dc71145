"""What a range test leaves, also where nothing can be read off it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from sightline.train.lr_curve import read
from sightline.train.range_test import RangeTest
from sightline.train.range_test_files import write


def of(losses: list[float], probed: list[float], beginning: float) -> RangeTest:
    rates = np.geomspace(1e-6, 1.0, len(losses))
    reading = read(rates, np.array(probed), beginning)
    return RangeTest(rates, np.array(losses), np.array(probed), beginning, reading, "SGD", {"weight": 1.0}, 16)


def test_numbers_that_are_none_become_null(tmp_path: Path):
    test = of([12.0] * 30 + [math.nan, math.inf], [10.0] * 20 + [7.0] * 11 + [math.inf], 10.0)
    write(test, tmp_path)
    numbers = json.loads((tmp_path / "lr_find.json").read_text(encoding="utf-8"))
    assert numbers["loss"] == [12.0] * 30 + [None, None]
    assert numbers["probed"][-1] is None
    assert len(numbers["smoothed"]) == 31
    assert numbers["suggestion"] == numbers["bottom"] == test.reading.bottom
    assert numbers["diverged"] == 1.0
    assert (tmp_path / "lr_find.png").stat().st_size > 10_000


@pytest.mark.parametrize("beginning", [10.0, math.nan])
def test_a_network_that_is_lost_at_once_has_a_picture_too(beginning: float, tmp_path: Path):
    test = of([math.nan], [math.nan], beginning)
    write(test, tmp_path)
    text = (tmp_path / "lr_find.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert json.loads(text)["suggestion"] is None
    assert (tmp_path / "lr_find.png").is_file()
    assert any("nothing can be suggested" in line for line in test.lines())
