"""Layers: defaults < preset < YAML file < command line or keywords, each value with its origin."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml

from sightline.config.load import Overrides, make_settings, settings_of_run, to_yaml
from sightline.config.names import LATER
from sightline.config.settings import Settings
from sightline.errors import (
    MissingFileError,
    SettingsError,
    SettingTypeError,
    SettingValueError,
    UnknownSettingError,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my settings ä.yaml"
    path.write_text("epochs: 20\nlr0: 0.02\niou: 0.7\n", encoding="utf-8")
    return path


def test_each_layer_wins_over_those_below(file: Path):
    settings = make_settings(
        "train",
        {"epochs": 30},
        cfg=file,
        origin="command line",
        preset={"epochs": 10, "lr0": 0.5, "momentum": 0.9},
    )
    assert (settings.epochs, settings.lr0, settings.momentum, settings.mode) == (30, 0.02, 0.9, "train")
    assert settings.origin("epochs") == "command line"
    assert settings.origin("lr0") == f"file:{file.name}"
    assert settings.origin("iou") == f"file:{file.name}"  # said, though equal to the default
    assert settings.origin("momentum") == "preset"
    assert settings.origin("box") == "default"


def test_a_file_may_be_named_among_the_overrides(file: Path):
    settings = make_settings("train", {"cfg": str(file)})
    assert (settings.epochs, settings.cfg) == (20, str(file))


def test_modes_start_from_their_own_defaults():
    predict = make_settings("predict")
    assert (predict.batch, predict.rect, predict.save, predict.changed().keys()) == (
        1, True, False, {"mode", "rect", "batch", "save"},
    )  # fmt: skip
    assert not any(predict.is_user_set(name) for name in ("batch", "rect", "save"))
    assert make_settings("val").rect is True
    assert make_settings("val", {"rect": False}).rect is False
    assert make_settings("train").rect is False


def test_a_base_keeps_its_origins_and_gives_way_to_overrides():
    base = make_settings("train", {"imgsz": 320, "batch": 8}, origin="checkpoint")
    settings = make_settings("predict", {"conf": 0.5}, base=base)
    assert (settings.imgsz, settings.origin("imgsz")) == (320, "checkpoint")
    assert (settings.batch, settings.save, settings.conf) == (8, False, 0.5)  # 8 was asked for, save was not
    assert make_settings("predict", {"imgsz": 64}, base=base).imgsz == 64
    assert base.mode == "train"


@pytest.mark.parametrize(
    ("text", "error", "expected"),
    [
        ("epochs: 0", SettingValueError, "epochs=0"),
        ("epochs: '5'", SettingTypeError, "epochs='5'"),
        ("epoch: 5", UnknownSettingError, "epochs=100"),
        ("angle: 3", UnknownSettingError, "not in sightline yet"),
        ("[1, 2]", SettingTypeError, "list"),
        ("a: [", SettingTypeError, "cannot be read as YAML"),
        ("1: 2", SettingTypeError, "setting: value"),
        ("val: false\nval_interval: 3", SettingValueError, "val_interval=3"),
    ],
)
def test_errors_in_a_file_name_the_file(tmp_path: Path, text: str, error: type[SettingsError], expected: str):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(error) as caught:
        make_settings("train", {"epochs": 5, "val_interval": 1}, cfg=path)  # even where a keyword would win
    assert "bad.yaml" in str(caught.value)
    assert expected in str(caught.value)


def test_a_missing_file_is_an_error_with_a_hint(tmp_path: Path):
    (tmp_path / "my.yaml").write_text("epochs: 5")
    with pytest.raises(MissingFileError, match=r"my\.yaml"):
        make_settings("train", cfg=tmp_path / "my")
    with pytest.raises(SettingTypeError, match="cfg=3"):
        make_settings("train", {"cfg": 3})


def test_an_empty_file_asks_for_nothing(tmp_path: Path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert make_settings("train", cfg=tmp_path / "empty.yaml").changed().keys() == {"cfg"}


def test_a_complete_file_of_the_reference_is_usable(tmp_path: Path, caplog):
    values = {name: later.default for name, later in LATER.items()} | {"mode": "train", "lr0": 0.02, "save_json": False}
    (tmp_path / "args.yaml").write_text(yaml.safe_dump(values))
    with caplog.at_level(logging.INFO, logger="sightline"):
        assert make_settings("train", cfg=tmp_path / "args.yaml").lr0 == 0.02
    assert f"passed over {len(LATER)}" in caplog.text


def test_args_yaml_can_be_run_again_elsewhere(tmp_path: Path):
    first = Settings(lr0=0.02, scale=(0.5, 2.0), classes=[1], name="größer", save_dir=str(tmp_path))
    first.fill_auto("momentum", 0.9)
    file = tmp_path / "args.yaml"
    file.write_text(to_yaml(first), encoding="utf-8")
    assert yaml.safe_load(file.read_text(encoding="utf-8")) == first.to_dict()
    assert "momentum: 0.9  # auto\n" in file.read_text(encoding="utf-8")

    again = make_settings("train", cfg=file)
    assert again.save_dir is None  # or the second run would overwrite the first
    same = first.to_dict() | {"save_dir": None, "cfg": str(file)}
    assert again.to_dict() == same
    assert not again.fill_auto("momentum", 0.5)  # what ran is what is asked for


def test_a_folder_that_a_users_file_names_is_kept(tmp_path: Path):
    (tmp_path / "my.yaml").write_text(f"save_dir: {tmp_path / 'out'}\n")
    assert make_settings("train", cfg=tmp_path / "my.yaml").save_dir == str(tmp_path / "out")


def test_settings_that_a_mode_does_not_read_are_said_once(caplog):
    with caplog.at_level(logging.WARNING, logger="sightline"):
        make_settings("predict", {"epochs": 5, "conf": 0.3})
        assert "epochs: not read by predict" in caplog.text
        assert "conf" not in caplog.text
        caplog.clear()
        make_settings("predict", {"epochs": 5, "hide_labels": True}, quiet=True)
        assert not caplog.text


def test_an_unknown_mode_is_refused():
    with pytest.raises(SettingValueError, match="mode='trian'"):
        make_settings("trian")


def test_pictures_and_transforms_are_not_copied():
    class Stubborn:
        def __deepcopy__(self, memo):
            raise TypeError("refuses to be copied")

    picture, transform, names = Stubborn(), Stubborn(), ["a"]
    base = make_settings("train", {"augmentations": [transform]})
    settings = make_settings("predict", {"source": picture, "data": {"names": names}}, base=base)
    assert settings.source is picture
    assert settings.augmentations[0] is transform
    assert settings.data["names"] is not names


def test_a_trainer_that_passes_on_the_defaults_loses_nothing():
    """`super().__init__(DEFAULT_CFG, overrides)` in a script, where the facade gave the settings as `cfg`."""
    asked = {"epochs": 3, "lr0": 0.5, "hide_labels": True}
    overrides = Overrides(asked)
    assert settings_of_run(Settings(), overrides, "").epochs == 3
    held = make_settings("train", asked)
    held.epochs = 7  # the script changed what it was given
    assert settings_of_run(held, overrides, "").epochs == 7
    overrides["lr0"] = 0.1
    assert settings_of_run(held, overrides, "").lr0 == 0.1
    assert settings_of_run(held, overrides, "").epochs == 7


@pytest.mark.parametrize(("text", "number"), [("1e-3", 0.001), ("5E-4", 0.0005), ("1.5e-3", 0.0015), ("1.e-2", 0.01)])
def test_numbers_in_a_file_may_have_an_exponent(tmp_path: Path, text: str, number: float):
    """YAML 1.1 reads 1e-3, which has no point, as text."""
    (tmp_path / "my.yaml").write_text(f"lr0: {text}\n")
    assert make_settings("train", cfg=tmp_path / "my.yaml").lr0 == number


@pytest.mark.parametrize("text", ["e3", "1e", "0.01", "1e-3x", "nan", "inf"])
def test_other_text_is_no_number(text: str):
    with pytest.raises(SettingTypeError, match="lr0="):
        make_settings("train", {"lr0": text})
