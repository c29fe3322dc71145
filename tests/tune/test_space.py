"""The search space: what is understood, and what each mistake is answered with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from sightline.config.settings import DEFAULTS, Settings
from sightline.errors import MissingInputError, SettingsError, SettingTypeError, SettingValueError, UnknownSettingError
from sightline.tune.space import Choices, Factor, Range, read_space, to_plain


def only(given: Any) -> Any:
    return next(iter(read_space(given)[0].values()))


def test_ranges_choices_and_factors_are_read(tmp_path: Path):
    file = tmp_path / "space.yaml"
    file.write_text(
        "lr0: {low: 1e-3, high: 0.1, log: true}\nbatch: {low: 8, high: 32, step: 8}\n"
        "optimizer: {choices: [adamw, SGD]}\nbox: {factor: 3}\n"
    )
    space, called = read_space(file)
    assert called == "space.yaml"
    assert space == {
        "lr0": Range(0.001, 0.1, log=True),
        "batch": Range(8, 32, step=8, whole=True),
        "optimizer": Choices(("AdamW", "SGD")),
        "box": Factor(3.0),
    }


def test_plain_values_come_back_the_same():
    space, _ = read_space({"lr0": {"low": 0.001, "high": 0.1, "log": True}, "cos_lr": {"choices": [True, False]}})
    assert read_space(to_plain(space))[0] == space  # type: ignore[arg-type]


def test_pairs_are_ranges_as_the_tuner_of_ultralytics_has_them():
    assert only({"lr0": (1e-5, 1e-1)}) == Range(1e-5, 1e-1)
    assert only({"lr0": [1e-5, 1e-1, 2.0]}) == Range(1e-5, 1e-1)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_a_value_at_a_share_of_the_way_is_inside(share: float):
    for dimension in (
        Range(0.001, 0.1, log=True),
        Range(8, 32, step=8, whole=True),
        Range(0.0, 0.9),
        Choices((1, None, "a")),
    ):
        assert dimension.contains(dimension.at(share))
    assert Range(0.001, 0.1, log=True).at(0.5) == pytest.approx(0.01)
    assert not Range(8, 32, step=8, whole=True).contains(12)
    assert not Range(0.0, 0.9).contains(True)


def test_a_factor_is_around_what_the_setting_would_be():
    around = Factor(10.0).around("lr0", 0.01)
    assert (around.low, around.high, around.log) == (pytest.approx(0.001), pytest.approx(0.1), True)
    assert Factor(10.0).around("lr0", 0.5).high == 1.0  # lr0 ends there
    assert Factor(2.0).around("batch", 16) == Range(8, 32, log=True, whole=True)
    with pytest.raises(SettingValueError, match="that is 0"):
        Factor(3.0).around("mixup", 0.0)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"lr": (0.1, 0.2)}, UnknownSettingError, "Did you mean lrf=0.01 or lr0=0.01"),
        ({"dropout": (0.1, 0.2)}, UnknownSettingError, "comes with classification"),
        ({"lr0": {"low": 0.1, "high": 0.01}}, SettingValueError, "low=0.1 must be below high=0.01"),
        ({"lr0": {"low": 0.001, "high": 2}}, SettingValueError, "from 0 to 1"),
        ({"lr0": {"low": 0, "high": 0.1, "log": True}}, SettingValueError, "low above 0"),
        ({"lr0": {"low": 0.001}}, SettingValueError, "low without high"),
        ({"lr0": {"lo": 0.001, "high": 1}}, SettingValueError, "There is: low, high"),
        ({"lr0": {"low": 0.1, "high": 0.2, "factor": 3}}, SettingValueError, "either low and high, or choices"),
        ({"lr0": {"factor": 0.5}}, SettingValueError, "above 1"),
        ({"lr0": {"low": "much", "high": 0.2}}, SettingTypeError, "low='much' must be a number"),
        ({"lr0": 0.1}, SettingTypeError, "is no range"),
        ({"lr0": {"low": 0.1, "high": 0.5, "step": 0.7}}, SettingValueError, "at most high - low"),
        ({"close_mosaic": {"low": 0, "high": 2.5}}, SettingTypeError, "a whole number"),
        ({"close_mosaic": {"low": 0, "high": 4, "step": 0.5}}, SettingValueError, "must be a whole number"),
        ({"focal_gamma": {"low": 0, "high": 2}}, SettingValueError, "between 0 and 1 the gradient grows"),
        ({"optimizer": {"low": 1, "high": 2}}, SettingTypeError, "give choices"),
        ({"optimizer": {"choices": ["SGD", "sgd"]}}, SettingValueError, "a value twice"),
        ({"optimizer": {"choices": ["SGD", "LION"]}}, SettingValueError, "optimizer='LION'"),
        ({"lr0": {"choices": ["find", 0.1]}}, SettingValueError, "find is no value"),
        ({"optimizer": {"choices": ["SGD"]}}, SettingValueError, "two or more"),
        ({"lr_groups": {"choices": [{"a": 1}, {"b": 1}]}}, SettingTypeError, "not lists or tables"),
        ({}, SettingValueError, "is empty"),
    ],
)
def test_mistakes(given: dict[str, Any], error: type[SettingsError], says: str, tmp_path: Path):
    with pytest.raises(error, match=says):
        read_space(given)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "lr0: {low: 0.001, high: 0.1}\nmomentun: {low: 0.1, high: 0.9}\n",
            r"s.yaml line 2: 'momentun' is not a setting",
        ),
        (
            "lr0: {low: 0.1, high: 0.2}\nbox: {factor: 3}\nlr0: {factor: 2}\n",
            "line 3: lr0 is there twice, first in line 1",
        ),
        ("lr0: [1, 2", "cannot be read as YAML"),
        ("- lr0\n", "is a table of settings"),
    ],
)
def test_mistakes_in_a_file_name_its_line(text: str, says: str, tmp_path: Path):
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=says):
        read_space(file)


def test_a_missing_file_is_said():
    with pytest.raises(MissingInputError, match="there is no such file"):
        read_space("nowhere.yaml")


def test_every_value_of_the_built_in_space_is_one_that_the_setting_takes():
    space, _ = read_space(None)
    for name, dimension in space.items():
        found = dimension.around(name, DEFAULTS[name]) if isinstance(dimension, Factor) else dimension
        for share in (0.0, 0.3, 1.0):
            value = found.at(share)
            assert math.isclose(getattr(Settings(**{name: value}), name), value)


def test_domains_of_ray_are_understood():
    tune = pytest.importorskip("ray.tune")
    space, _ = read_space(
        {
            "lr0": tune.loguniform(1e-4, 1e-1),
            "momentum": tune.uniform(0.6, 0.98),
            "batch": tune.randint(8, 33),
            "optimizer": tune.choice(["SGD", "AdamW"]),
        }
    )
    assert space == {
        "lr0": Range(1e-4, 1e-1, log=True),
        "momentum": Range(0.6, 0.98),
        "batch": Range(8, 32, whole=True),
        "optimizer": Choices(("SGD", "AdamW")),
    }
