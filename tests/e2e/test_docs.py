"""docs/customising.md: its code runs, its settings exist, its tables name every hook."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sightline.callbacks.base import EVENTS
from sightline.config.load import make_settings, parse_command_line
from sightline.facade import YOLO
from sightline.train.detect import DetectionTrainer
from sightline.train.trainer import BaseTrainer
from sightline.validate.detect import DetectionValidator
from train.test_trainer import FAST, make

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "customising.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    return re.split(rf"^#+ {re.escape(title)}$", PAGE, flags=re.MULTILINE)[1].split("\n#")[0]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of the tables in a text, without their heads."""
    for line in text.splitlines():
        if line.startswith("| `") or re.match(r"\| .*`.*`.*\|", line):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=[f"block{i}" for i in range(len(BLOCKS))])
def test_the_code_runs(block: str, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    text = tiny_data.read_text().replace("path: .", f"path: {tiny_data.parent}")
    Path("coffee.yaml").write_text(text)
    runs: list[str] = []
    train = YOLO.train

    def small(self: YOLO, **settings: Any) -> Any:
        assert settings["data"] == "coffee.yaml"
        assert settings["epochs"] <= 2
        result = train(self, **FAST | settings)
        runs.append(str(self.trainer.save_dir))
        return result

    monkeypatch.setattr(YOLO, "train", small)
    exec(compile(block, "docs/customising.md", "exec"), {"__name__": "__main__"})
    assert len(runs) == 1


def test_there_is_code_to_run():
    assert len(BLOCKS) == PAGE.count("```") / 2 >= 4
    for block in BLOCKS:
        compile(block, "docs/customising.md", "exec")


def test_the_settings_it_names_exist():
    cells = [cell for row in rows(section("The same seven, as a setting and as a script")) for cell in row[:2]]
    lines = [text for cell in cells for text in code(cell) if "=" in text]
    found = [word for line in lines for word in re.split(r" (?=\w+=)", line) if not word.endswith("=")]
    assert len(found) >= 18
    for word in found:
        make_settings("train", parse_command_line(["train", word]).overrides)


def test_the_tables_name_every_event_and_every_public_method():
    events = [name for row in rows(section("Every event")) for name in code(row[0])]
    assert sorted(events) == sorted(EVENTS)
    named = [text.split("(")[0] for row in rows(section("Every method")) for text in code(row[0])]
    public = {
        name
        for kind in DetectionTrainer.__mro__[:-1]
        for name, value in vars(kind).items()
        if callable(value) and not name.startswith("_")
    }
    assert issubclass(DetectionTrainer, BaseTrainer)
    assert set(named) == public
    assert len(named) == len(set(named))


def test_the_arguments_it_names_are_those_of_the_methods():
    for row in rows(section("Every method")):
        for text in code(row[0]):
            name, arguments = re.fullmatch(r"(\w+)\((.*)\)", text).groups()  # type: ignore[union-attr]
            known = list(inspect.signature(getattr(DetectionTrainer, name)).parameters)[1:]
            short = {"fn": "callback", "many": "callbacks"}
            given = [short.get(word, word) for word in arguments.split(", ") if word]
            assert given == known or name in ("save_model", "auto_batch"), name


def test_the_attributes_it_names_are_there(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path)
    text = section("While it runs")
    listed = code(text.split("And to read")[1])
    assigned = [part.split(" ")[0] for row in rows(text) for part in code(row[0])]
    read = [name for row in rows(section("Every event")) if len(row) > 2 for name in code(row[2])]
    names = {name for name in [*listed, *assigned, *read] if re.fullmatch(r"[a-z_]+", name)}
    other = {"requires_grad", "initial_lr"}  # of a parameter, of a group
    assert len(names) >= 50
    assert [name for name in sorted(names - other) if not hasattr(trainer, name)] == []
    validator = DetectionValidator()
    assert [name for name in re.findall(r"`validator\.(\w+)`", PAGE) if not hasattr(validator, name)] == []
