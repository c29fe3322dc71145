"""docs/tutorials: each begins in an empty folder; its files, commands and code run there, in the order of the page."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from sightline.callbacks.base import EVENTS
from sightline.cli.main import app
from sightline.config.command_line import parse_command_line
from sightline.config.load import make_settings
from sightline.config.preset import preset_names
from sightline.config.settings import DEFAULTS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted((DOCS / "tutorials").glob("*.md"))
BLOCK = re.compile(r'^```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
EXIT_CODES = {
    "python killed.py": -9,
    "doctor overfit": None,
}  # None: a network that trains for a second has learnt nothing


def blocks(page: Path) -> list[re.Match[str]]:
    return list(BLOCK.finditer(page.read_text(encoding="utf-8")))


def commands(text: str) -> list[list[str]]:
    """The words of each `sightline …` and `python …` of a block without language."""
    lines = (shlex.split(line, comments=True) for line in text.splitlines())
    return [words for words in lines if words and words[0] in ("sightline", "python")]


def all_commands() -> list[list[str]]:
    return [
        words
        for page in PAGES
        for block in blocks(page)
        if not block["language"]
        for words in commands(block["text"])
        if words[0] == "sightline"
    ]


def python_of(page: Path) -> list[str]:
    return [block["text"] for block in blocks(page) if block["language"] == "python"]


def test_every_page_is_there_and_every_fence_is_read():
    assert len(PAGES) == 7
    assert len(all_commands()) >= 25
    for page in PAGES:
        assert len(blocks(page)) == len(re.findall(r"^```", page.read_text(encoding="utf-8"), re.MULTILINE)) / 2


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_a_command_is_one(words: list[str]):
    words = [word for word in words[1:] if word != "detect"]  # a task may stand before the mode
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert words[0] in known
    if words[0] == "doctor":
        words = words[1:]
        assert words[0] in known["doctor"].commands
    if words[0] == "settings" and "=" not in " ".join(words):
        names = [word for word in words[1:] if word != "explain"]
        assert set(names) <= set(DEFAULTS) | set(preset_names())
    mode = words[0] if words[0] in ("train", "val", "predict") else "train"
    settings = [word for word in words[1:] if "=" in word]
    make_settings(mode, parse_command_line([mode, *settings]).overrides)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_code_compiles_and_imports_what_is_there(page: Path):
    for text in python_of(page):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("sightline"):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
    for block in blocks(page):
        if block["language"] == "yaml":
            assert {"train", "val", "names"} <= set(yaml.safe_load(block["text"]))


def test_the_number_of_moments_is_right():
    assert f"There are {len(EVENTS)} moments" in (DOCS / "tutorials/change-the-training.md").read_text(encoding="utf-8")


def smaller(text: str) -> str:
    """The same page with runs of seconds: fewer pictures, smaller ones, and one epoch where there are ten and more."""
    text = text.replace('{"train": 200, "val": 40}', '{"train": 16, "val": 8}')
    text = re.sub(r'data=("?)(shapes(?:-pose)?)\1(?!,? fraction)', lambda found: few(found[0], found[1]), text)
    text = re.sub(r"\bepochs=\d\d+", "epochs=1", text)
    return re.sub(r"\bimgsz=\d+", "imgsz=64", text)


def few(data: str, quote: str) -> str:
    """`data=…` with a tenth of its pictures, on the command line or (with quotes) in Python."""
    return f"{data}{',' if quote else ''} fraction=0.1"


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_runs_from_top_to_bottom(page: Path, tmp_path: Path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def run(words: list[str], expected: int | None = 0) -> None:
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert expected in (None, done.returncode), " ".join(words) + "\n" + done.stdout + done.stderr
        assert "Traceback" not in done.stderr

    for block in BLOCK.finditer(smaller(page.read_text(encoding="utf-8"))):
        if block["title"]:
            (tmp_path / block["title"]).write_text(block["text"], encoding="utf-8")
        elif block["language"] == "python":
            run([sys.executable, "-c", block["text"]])
        elif not block["language"]:
            for words in commands(block["text"]):
                expected = next((code for start, code in EXIT_CODES.items() if start in " ".join(words)), 0)
                run(
                    [sys.executable, *(["-m"] if words[0] == "sightline" else []), *words[words[0] == "python" :]],
                    expected,
                )
