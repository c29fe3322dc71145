"""Two settings for one thing: in one place an error, else what comes later wins and says so."""

from __future__ import annotations

import pytest

from sightline.config.load import make_settings
from sightline.errors import SettingValueError


@pytest.mark.parametrize(
    "given",
    [
        {"accumulate": 4, "nbs": 64},
        {"accumulate": 4, "nbs": 32},
        {"warmup_steps": 100, "warmup_epochs": 3.0},
        {"scheduler": "step", "cos_lr": True},
        {"scheduler": "linear", "cos_lr": True},
    ],
)
def test_both_are_an_error_that_names_both(given):
    with pytest.raises(SettingValueError) as problem:
        make_settings("train", given)
    assert all(f"{name}={value}" in str(problem.value) for name, value in given.items())
    with pytest.raises(SettingValueError):
        make_settings("train", given, origin="command line")


def test_both_in_a_file_are_an_error_unless_one_is_a_default(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("accumulate: 4\nnbs: 32\n")
    with pytest.raises(SettingValueError, match=r"my\.yaml: accumulate=4 and nbs=32"):
        make_settings("train", {}, cfg=file)
    file.write_text("accumulate: 4\nnbs: 64\nscheduler: step\ncos_lr: false\n")  # as in a complete args.yaml
    settings = make_settings("train", {}, cfg=file)
    assert (settings.accumulate, settings.scheduler) == (4, "step")


def test_two_ways_that_agree_are_no_error():
    assert make_settings("train", {"scheduler": "cosine", "cos_lr": True}).scheduler == "cosine"
    assert make_settings("train", {"scheduler": None, "cos_lr": True}).cos_lr
    assert make_settings("train", {"accumulate": None, "nbs": 32}).nbs == 32


def test_what_comes_later_wins_as_a_pair(tmp_path, caplog):
    file = tmp_path / "my.yaml"
    file.write_text("nbs: 32\ncos_lr: true\nwarmup_steps: 50\n")
    with caplog.at_level("INFO", logger="sightline"):
        settings = make_settings("train", {"accumulate": 4, "scheduler": "step", "warmup_epochs": 2}, cfg=file)
    assert (settings.accumulate, settings.nbs, settings.origin("nbs")) == (4, 64, "default")
    assert (settings.scheduler, settings.cos_lr) == ("step", False)
    assert (settings.warmup_epochs, settings.warmup_steps) == (2, None)
    assert "accumulate=4 (code) takes the place of nbs=32 (file:my.yaml)" in caplog.text
    below = make_settings("train", {"nbs": 32}, preset={"accumulate": 4})
    assert (below.nbs, below.accumulate) == (32, None)
    off = make_settings("train", {"cos_lr": False}, preset={"scheduler": "cosine"})
    assert off.scheduler is None
