"""On and off: what `enable` changes, what it leaves alone, and that `disable` takes all of it back."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pickle
import sys
from pathlib import Path

import cloudpickle
import pytest

import sightline
from sightline import compat
from sightline.compat import replacing
from sightline.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


def test_the_names_are_there_only_between_enable_and_disable():
    before = list(sys.meta_path)
    assert importlib.util.find_spec("ultralytics") is None
    assert compat.enable() is True
    from ultralytics import YOLO

    assert YOLO is sightline.YOLO
    assert os.environ["SIGHTLINE_PRELOAD"] == "sightline.compat"
    compat.disable()
    assert sys.meta_path == before
    assert importlib.util.find_spec("ultralytics") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("ultralytics.utils")
    assert "SIGHTLINE_PRELOAD" not in os.environ


def test_twice_is_as_once():
    compat.enable()
    finders = list(sys.meta_path)
    module = importlib.import_module("ultralytics.utils.ops")
    assert compat.enable() is True
    assert sys.meta_path == finders
    assert importlib.import_module("ultralytics.utils.ops") is module
    compat.disable()
    compat.disable()
    assert not compat.is_enabled()


def test_a_real_package_is_left_alone_and_that_is_said(real_package: Path, capsys: pytest.CaptureFixture):
    assert compat.enable() is False
    assert not compat.is_enabled()
    assert importlib.import_module("ultralytics").YOLO == "the real one"
    assert importlib.import_module("ultralytics.utils").LOGGER == "the real one"
    told = capsys.readouterr().err
    assert str(real_package) in told
    assert "left alone" in told
    assert "enable(replace=True)" in told
    assert "SIGHTLINE_PRELOAD" not in os.environ


def test_a_real_package_is_replaced_when_asked_for(real_package: Path):
    assert compat.enable(replace=True) is True
    assert importlib.import_module("ultralytics").YOLO is sightline.YOLO
    assert importlib.import_module("ultralytics.utils").LOGGER is sightline.LOGGER
    # Processes of this run must do the same without being told how.
    assert os.environ["SIGHTLINE_PRELOAD"] == "sightline.compat.replacing"
    compat.disable()
    assert importlib.import_module("ultralytics").YOLO == "the real one"


def test_what_other_processes_are_told_to_import_replaces_it_there(real_package: Path):
    assert replacing.enable() is True
    assert importlib.import_module("ultralytics").YOLO is sightline.YOLO


def test_a_real_package_that_is_in_use_is_not_replaced(real_package: Path):
    taken = importlib.import_module("ultralytics")
    assert compat.enable() is False
    with pytest.raises(UsageError, match=r"imported already.*before that import"):
        compat.enable(replace=True)
    assert sys.modules["ultralytics"] is taken


def test_a_folder_of_that_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "ultralytics" / "cfg").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    assert compat.enable() is True
    assert importlib.import_module("ultralytics").YOLO is sightline.YOLO


def test_modules_travel_to_other_processes_by_name():
    compat.enable()
    module = importlib.import_module("ultralytics.utils")
    assert pickle.loads(pickle.dumps(module)) is module
    assert pickle.loads(cloudpickle.dumps(module)) is module


def test_an_assigned_name_is_kept_and_a_warning_says_that_nothing_else_changes(capsys: pytest.CaptureFixture):
    compat.enable()
    loss = importlib.import_module("ultralytics.utils.loss")
    loss.v8DetectionLoss = dict
    assert loss.v8DetectionLoss is dict
    assert "sightline does not look there" in capsys.readouterr().err


def test_importing_the_package_enables_nothing():
    assert not compat.is_enabled()


def test_our_wheel_holds_no_package_of_that_name():
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '[tool.setuptools.packages.find]\nwhere = ["src"]' in settings  # all packages below src, and no others
    assert "py-modules" not in settings
    tops = {path.name for path in (ROOT / "src").iterdir() if not path.name.endswith(".egg-info")}
    assert tops == {"sightline"}
