"""docs/schedules.md: every setting in it is one, with a value that is allowed; its formulas are those of the code."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path

import pytest
import yaml

from sightline.config.load import make_settings, parse_command_line
from sightline.config.preset import preset_names
from sightline.config.settings import DEFAULTS
from sightline.train.lr_shapes import LrShape

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "schedules.md").read_text(encoding="utf-8")
CODE = re.findall(r"`([^`\n]+)`", PAGE)
SETTINGS = [word for word in CODE if re.fullmatch(r"\w+=\S+|\w+=\S+ \w+=\S+", word) and ".yaml" not in word]


def test_there_are_settings():
    assert len(SETTINGS) > 12


@pytest.mark.parametrize("words", SETTINGS)
def test_a_setting_of_the_page_is_allowed(words: str):
    make_settings("train", parse_command_line(["train", *words.split()]).overrides)


def test_every_setting_of_schedule_warm_up_and_stages_is_on_the_page():
    from sightline.config.groups.schedule import ScheduleSettings, WarmupSettings
    from sightline.config.groups.stages import StageSettings

    names = [*ScheduleSettings.model_fields, *WarmupSettings.model_fields, *StageSettings.model_fields]
    assert [name for name in names if not re.search(rf"\b{name}\b", PAGE)] == []
    assert all(f"| `{name}` |" in PAGE for name in preset_names())


def test_the_stages_of_the_page():
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    settings = make_settings("train", yaml.safe_load(block))
    assert len(settings.loss_schedule) == 3
    assert set(yaml.safe_load(block)) <= set(DEFAULTS)


def test_the_formulas_of_the_page():
    """The column `factor`, read as Python."""
    epochs, lrf = 50, 0.03
    for kind in ("linear", "cosine", "constant"):
        (text,) = re.findall(rf"\| `{kind}` \| ([^|]+) \|", PAGE)
        text = text.replace("−", "-").replace("·", "*")
        for e in (0, 7, 49):
            given = {"e": e, "E": epochs, "lrf": lrf, "c": lambda x: (1 + math.cos(math.pi * x)) / 2}
            assert LrShape(kind, lrf=lrf).factor(e, epochs) == pytest.approx(eval(text, given))


def test_the_picture_is_drawn_from_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = Path(__file__).resolve().parents[2] / "examples" / "plot_schedules.py"
    spec = importlib.util.spec_from_file_location("plot_schedules", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    epochs, rates = script.rates(epochs=4, scheduler="constant", warmup_epochs=1, lr0=0.01)
    assert rates == pytest.approx([min(epoch, 1) * 0.01 for epoch in epochs])
    script.main([str(tmp_path / "mine.png"), "epochs=5", "scheduler=step"])
    assert (tmp_path / "mine.png").stat().st_size > 1000
