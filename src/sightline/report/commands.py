"""The command lines that go on with a run, start it again and use what it left."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.report.settings_file import DEFAULT, RunSetting

# Where a run goes and what it goes on from are no part of its recipe; the mode stands before the settings.
NO_RECIPE = frozenset({"save_dir", "project", "name", "exist_ok", "resume", "mode", "cfg"})
DECIDED_BY_THE_RUN = ("auto", DEFAULT)  # comes out the same without being said


def commands_of(folder: Path, settings: Sequence[RunSetting]) -> list[dict[str, str]]:
    """Title, what it does and the command itself, for each thing that can be done with this run now."""
    values = {setting.name: setting.value for setting in settings}
    last, best = folder / "weights" / "last.pt", folder / "weights" / "best.pt"
    commands = []
    if last.is_file():
        commands.append(_row("Resume", "goes on where the run stopped", ["train", f"resume={last}"]))
    if settings:
        chosen = [setting for setting in settings if not setting.origin.startswith(DECIDED_BY_THE_RUN)]
        words = [f"{s.name}={_word(s.value)}" for s in chosen if s.name not in NO_RECIPE]
        commands.append(_row("Reproduce", "the same recipe, from what was asked for", ["train", *words]))
        commands.append(
            _row(
                "Reproduce exactly",
                "every setting as it was in the end, also what a later version decides otherwise",
                ["train", f"cfg={folder / 'args.yaml'}", "save_dir=None"],
            )
        )
    if best.is_file():
        size = [f"imgsz={_word(values['imgsz'])}"] if "imgsz" in values else []
        data = [f"data={_word(values['data'])}"] if values.get("data") else []
        commands.append(_row("Validate", "the best weights", ["val", f"model={best}", *data, *size]))
        commands.append(_row("Predict", "on pictures of your own", ["predict", f"model={best}", "source=…", *size]))
    commands.append(_row("Judge", "the rules of the diagnosis once more", ["doctor", "run", str(folder)]))
    commands.append(_row("This page", "made again from the run folder", ["report", str(folder)]))
    return commands


def _row(title: str, what: str, words: Sequence[str]) -> dict[str, str]:
    return {"title": title, "what": what, "command": " ".join(["sightline", *map(_quoted, words)])}


def _quoted(word: str) -> str:
    return word if word.endswith("=…") else shlex.quote(word)


def _word(value: Any) -> str:
    """A value as the command line reads it: text as it is, all else as Python writes it."""
    return value if isinstance(value, str) else repr(value)
