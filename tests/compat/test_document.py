"""docs/migrating.md says what the table says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sightline
from sightline.compat import document, table
from sightline.config.names import LATER
from sightline.config.settings import DEFAULTS

FILE = Path(__file__).resolve().parents[2] / table.DOCUMENT
TEXT = FILE.read_text(encoding="utf-8")


def test_the_generated_parts_are_up_to_date():
    assert document.filled(TEXT) == TEXT, f"run: python -m sightline.compat.document {table.DOCUMENT}"


@pytest.mark.parametrize("row", list(table.rows()), ids=lambda row: row.old)
def test_every_row_stands_there_with_an_import_that_gives_its_object(row: table.Row):
    line = next(line for line in TEXT.splitlines() if f"`{row.old.removeprefix('ultralytics.')}`" in line)
    statement = line.split(" | ")[1].strip("`")
    scope: dict = {}
    exec(statement, scope)
    assert scope[statement.split()[-1]] is table.load(row.new)


def test_settings_that_are_named_exist():
    section = TEXT.partition("## Settings that mean something else")[2].partition("\n## ")[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = {word.partition("=")[0] for cell in first_cells for word in re.findall(r"`([^`]+)`", cell)}
    assert named - {"path", "download:"} <= set(DEFAULTS)
    promised = set(re.findall(r"`(\w+)`", section.partition("not here yet (")[2].partition(")")[0]))
    assert promised <= set(LATER)


def test_decisions_that_are_named_exist():
    numbers = set(re.findall(r"\((?:decision )?(\d{4})\)", TEXT))
    there = {path.name[:4] for path in (FILE.parent / "decisions").glob("*.md")}
    assert numbers
    assert numbers <= there


def test_imports_in_the_text_work():
    for statement in re.findall(r"`(from sightline import [^`]+)`", TEXT):
        exec(statement)
    assert "from sightline import YOLO, DetectionTrainer" in TEXT
    assert sightline.YOLO.__name__ == "YOLO"
