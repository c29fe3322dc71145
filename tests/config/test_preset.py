"""Named recipes: what they hold, where they stand among the layers, and that every value of the user's wins."""

from __future__ import annotations

import pytest
import yaml

from sightline.config.load import make_settings
from sightline.config.moments import epoch_of
from sightline.config.preset import FOLDER, preset_file, preset_names, preset_text
from sightline.config.stages import stage_number
from sightline.errors import SettingsError, SettingValueError

# From the issue that asked for them.
WANTED = {
    "small-data": {"lr0": 0.001, "freeze": 15, "warmup_epochs": 10},
    "high-res": {"lr0": 0.0015, "batch": 32, "imgsz": 1280},
    "many-classes": {"lr0": 0.0025, "cls": 0.5 * 0.8},
    "realtime": {"optimizer": "AdamW", "lr0": 0.003, "weight_decay": 0.05},
    "long-run": {
        "epochs": 600, "accumulate": 4, "scheduler": "cosine", "restart_epoch": 0.5, "restart_factor": 0.5,
        "mosaic_prob": 0.8, "degrees": 0, "translate": 0.1, "copy_paste": 0.1,
        "empty_cache_period": 50, "diagnosis": True,
        "loss_schedule": [
            {"until": 0.1667, "box": 1.5, "cls": 0.8, "dfl": 0.5}, {"until": 0.75},
            {"box": 0.7, "cls": 1.2, "dfl": 1.3},
        ],
    },
    "fine-tune": {"lr0": 0.001, "epochs": 50},
}  # fmt: skip


@pytest.mark.parametrize("name", WANTED)
def test_values_and_origin(name):
    settings = make_settings("train", {"preset": name})
    for setting, value in WANTED[name].items():
        assert settings.get(setting) == value
        assert settings.origin(setting) == "preset"


def test_all_are_listed_and_say_what_they_are_for():
    assert set(preset_names()) == set(WANTED)
    for name in preset_names():
        assert preset_text(name).startswith("# ")


def test_the_stages_of_the_long_run_change_where_the_issue_says():
    settings = make_settings("train", {"preset": "long-run"})
    stages = [stage_number(settings.loss_schedule, epoch, settings.epochs) for epoch in (0, 99, 100, 449, 450, 599)]
    assert stages == [1, 1, 2, 2, 3, 3]
    assert epoch_of(settings.restart_epoch, settings.epochs) == 300


@pytest.mark.parametrize("name", WANTED)
def test_a_users_own_value_wins_wherever_it_comes_from(name, tmp_path):
    """Each setting of each preset against a default that the user says, on the command line and in a file."""
    defaults = make_settings("train")
    for setting in WANTED[name]:
        said = {setting: defaults.get(setting)}
        if said[setting] is None and setting == "restart_epoch":
            said = {setting: 7}
        by_keyword = make_settings("train", {"preset": name, **said}, origin="command line")
        assert (by_keyword.get(setting), by_keyword.origin(setting)) == (said[setting], "command line")
        file = tmp_path / "mine.yaml"

        file.write_text(yaml.safe_dump({"preset": name, **said}))
        by_file = make_settings("train", {}, cfg=file)
        assert (by_file.get(setting), by_file.origin(setting)) == (said[setting], "file:mine.yaml")


def test_the_other_way_of_saying_it_wins_too():
    settings = make_settings("train", {"preset": "long-run", "nbs": 32, "cos_lr": False})
    assert (settings.accumulate, settings.nbs, settings.scheduler) == (None, 32, None)
    assert make_settings("train", {"preset": "small-data", "warmup_steps": 50}).warmup_epochs == 3.0


def test_stages_of_a_preset_leave_alone_what_the_user_has_said(tmp_path, caplog):
    own = tmp_path / "mine.yaml"
    own.write_text("augment_schedule: [{until: 5, mosaic: 0.5, degrees: 5}, {mosaic: 0.1}]\n")
    with caplog.at_level("INFO", logger="sightline"):
        settings = make_settings("train", {"preset": str(own), "mosaic": 0.9})
    assert settings.augment_schedule == [{"until": 5, "degrees": 5.0}, {}]
    assert "mosaic=0.9 of your own" in caplog.text
    both = make_settings("train", {"augment_schedule": [{"mosaic": 0.1}], "mosaic": 0.9})  # both the user's
    assert both.augment_schedule == [{"mosaic": 0.1}]
    assert make_settings("train", {"preset": "long-run", "loss_schedule": None}).loss_schedule is None


def test_names_in_other_spellings_and_files_of_the_users_own(tmp_path, monkeypatch):
    assert preset_file("Long_Run") == preset_file("long-run.yaml") == FOLDER / "long-run.yaml"
    own = tmp_path / "mine.yaml"
    own.write_text("lr0: 0.005\nclip_grad: 1.0\n")
    settings = make_settings("train", {"preset": str(own), "lr0": 0.006})
    assert (settings.lr0, settings.clip_grad, settings.origin("clip_grad")) == (0.006, 1.0, "preset")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "long-run.yaml").write_text("epochs: 9\n")  # a file that is there is what was meant
    assert make_settings("train", {"preset": "long-run.yaml"}).epochs == 9
    assert make_settings("train", {"preset": "long-run"}).epochs == 600


def test_what_is_no_preset(tmp_path):
    with pytest.raises(SettingValueError, match=r"small-data.*Did you mean long-run\?"):
        make_settings("train", {"preset": "longrun"})
    with pytest.raises(SettingValueError, match="no such file"):
        make_settings("train", {"preset": str(tmp_path / "none.yaml")})
    own = tmp_path / "mine.yaml"
    for text, message in (
        ("lr0: -1\n", r"mine\.yaml: lr0=-1"),
        ("learning: 1\n", r"mine\.yaml: 'learning' is not a setting"),
        ("preset: long-run\n", r"mine\.yaml: preset=long-run cannot stand in a preset"),
        ("accumulate: 2\nnbs: 32\n", r"mine\.yaml: accumulate=2 and nbs=32"),
    ):
        own.write_text(text)
        with pytest.raises(SettingsError, match=message):
            make_settings("train", {"preset": str(own)})


def test_presets_are_for_training():
    assert make_settings("val", {"preset": "high-res"}, quiet=True).imgsz == 640


def test_layers_between_preset_and_user(tmp_path):
    def in_model_file(name):
        return {"my.yaml": {"lr0": 0.004, "epochs": 70, "preset": "small-data"}}.get(name, {})

    asked = {"model": "my.yaml", "epochs": 80}
    settings = make_settings("train", asked, in_model_file=in_model_file)
    assert (settings.lr0, settings.origin("lr0")) == (0.004, "model file")
    assert (settings.warmup_epochs, settings.origin("warmup_epochs")) == (10, "preset")
    assert (settings.epochs, settings.origin("epochs")) == (80, "code")
    # A trainer makes settings again from those that the call has made: nothing changes places.
    again = make_settings("train", {}, base=settings, in_model_file=in_model_file)
    assert again == settings
    resumed = make_settings("train", {"model": "my.yaml", "resume": True}, in_model_file=in_model_file)
    assert (resumed.epochs, resumed.lr0) == (100, 0.01)  # a run that goes on has its settings
    with pytest.raises(SettingValueError, match="preset=long-run with resume"):
        make_settings("train", {"model": "my.yaml", "resume": True, "preset": "long-run"})
