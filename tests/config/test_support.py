"""Values that are well formed but cannot run yet say what to write instead."""

from __future__ import annotations

import pytest

from sightline.config.settings import Settings
from sightline.config.support import check_supported, device_numbers
from sightline.errors import SettingValueError


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"batch": -1, "mode": "val"}, "training only"),
        ({"device": "0,1", "mode": "val"}, "device=0"),
        ({"device": [2, 3], "mode": "predict"}, "device=2"),
        ({"device": -1}, "Give its number"),
    ],
)
def test_what_cannot_run_yet(values: dict, expected: str):
    with pytest.raises(SettingValueError, match=expected):
        check_supported(Settings(**values))


@pytest.mark.parametrize(
    "values", [{}, {"device": "cpu"}, {"device": 0}, {"device": "cuda:1"}, {"batch": 4}, {"batch": -1}]
)
def test_what_can(values: dict):
    check_supported(Settings(**values))


def test_device_numbers():
    assert [device_numbers(device) for device in (None, "cpu", "mps", "cuda", 3, "3", "cuda:3", "0,cuda:2", [1])] == [
        [], [], [], [], [3], [3], [3], [0, 2], [1],
    ]  # fmt: skip
