"""`sightline settings explain`: what it says is what the parts of the program say."""

from __future__ import annotations

import pytest

from sightline.cli.main import main
from sightline.config import names
from sightline.config.effects import EFFECTS
from sightline.config.explain import explain, in_presets
from sightline.config.load import make_settings
from sightline.config.preset import preset_names
from sightline.config.settings import DEFAULTS
from sightline.errors import UnknownSettingError

USUAL = (
    "lr0",
    "lrf",
    "epochs",
    "batch",
    "imgsz",
    "optimizer",
    "momentum",
    "weight_decay",
    "mosaic",
    "box",
    "cls",
    "conf",
)


def test_effects_are_of_settings_and_the_usual_ones_have_one():
    assert set(EFFECTS) <= set(DEFAULTS)
    assert set(USUAL) <= set(EFFECTS)
    assert all(text.endswith(".") for text in EFFECTS.values())


def test_a_learning_rate_in_full(capsys: pytest.CaptureFixture[str]):
    assert main(["settings", "explain", "lr0"]) == 0
    out = capsys.readouterr().out
    lines = {line[2:18].strip(): line[18:] for line in out.splitlines() if line.startswith("  ") and line[2] != " "}
    assert out.startswith("lr0: Initial learning rate; find: what a range test before the run suggests.\n")
    assert lines["default"] == "0.01"
    assert lines["allowed"] == "a number from 0 to 1, or find"
    assert lines["read by"] == "train"
    assert lines["effect"].startswith("Too low: ")
    assert "learning_rate" in lines["not called"]
    for related in ("lrf", "lr_scale", "optimizer"):
        assert related in lines["see also"]
    assert "train/recipe.py:" in out
    assert {(place.file, place.function) for place in explain("lr0").fills} == {
        ("train/recipe.py", "fill_automatic"),
        ("train/rtdetr.py", ""),
        ("train/range_test.py", "settle"),
        ("train/live_settings.py", "_learning_rate"),
    }
    assert "train/trainer.py" in {place.file for place in explain("lr0").reads}  # `out` names the first few


@pytest.mark.parametrize("preset", preset_names())
def test_presets_are_named_with_their_values(preset: str):
    settings = make_settings("train", {"preset": preset})
    for name, origin in settings.origins().items():
        said = in_presets(name)
        assert (preset in said) == (origin == "preset"), name
        if preset in said:
            assert make_settings("train", {name: said[preset]}).get(name) == settings.get(name)


def test_other_names_of_a_setting(capsys: pytest.CaptureFixture[str]):
    assert explain("clip_grad_norm").row.name == "clip_grad"
    turned = explain("hide_conf")
    assert turned.row.name == "show_conf"
    assert turned.other_names == {"hide_conf": True}
    for old in {*names.RENAMED, *names.SYNONYMS}:
        assert old in explain(old).other_names
    assert main(["settings", "explain", "hide_conf", "clip_grad_norm"]) == 0
    out = capsys.readouterr().out
    assert "hide_conf is another name of show_conf, the opposite way round." in out
    assert "clip_grad_norm is another name of clip_grad." in out


def test_what_replaces_it_and_what_is_checked_with_it():
    assert explain("nbs").rivals == ["accumulate"]
    assert explain("accumulate").rivals == ["nbs"]
    assert explain("save_period").joined == ["save"]
    assert set(explain("class_weights").joined) == {"single_cls", "cls_pw"}
    assert explain("lr0").presets == in_presets("lr0")
    assert explain("rect").modes == {"val": True, "predict": True}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("learning_rate", "lr0"),
        ("epoch", "epochs"),
        ("dropout", "not in sightline yet"),
        ("keras", "no effect any more"),
    ],
)
def test_what_is_no_setting_is_an_error_with_the_nearest(name: str, expected: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(UnknownSettingError, match=expected):
        explain(name)
    assert main(["settings", "explain", "lr0", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert expected in err


def test_without_a_name_it_says_what_is_missing(capsys: pytest.CaptureFixture[str]):
    assert main(["settings", "explain"]) == 2
    assert "sightline settings explain lr0" in capsys.readouterr().err


def test_each_setting_can_be_explained():
    for name in DEFAULTS:
        text = "\n".join(explain(name).lines())
        assert all(len(line) <= 120 for line in text.splitlines()[1:]), text
        assert "read in" in text
