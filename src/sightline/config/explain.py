"""`sightline settings explain lr0`: all that is known of one setting, put together from where it is written down."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from sightline.config import names, table
from sightline.config.effects import EFFECTS
from sightline.config.groups import MODE_DEFAULTS
from sightline.config.preset import preset_names, preset_text
from sightline.config.readers import Place, places
from sightline.config.rivals import RIVALS
from sightline.config.settings import DEFAULTS, Settings
from sightline.errors import UnknownSettingError

MOST_PLACES, MOST_RELATED = 12, 10


@dataclass
class Explanation:
    """What is known of a setting.

    Attributes:
        row: its row in the table of settings.
        asked: the name that was asked for, where that is another name of it.
        effect: what more or less of it does; empty where nobody has written that down.
        other_names: accepted: old name or synonym → whether it means the opposite.
        not_accepted: what people type; the error names this setting.
        rivals: settings that say the same in another way; the later one wins.
        joined: settings that a rule checks together with it.
        mentioned: settings that its meaning names, or whose meaning names it.
        presets: name → value there.
        modes: mode → default, where a mode starts from another one.
        reads, fills: places in our source.
    """

    row: table.Row
    asked: str
    effect: str = ""
    other_names: dict[str, bool] = field(default_factory=dict)
    not_accepted: list[str] = field(default_factory=list)
    rivals: list[str] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)
    mentioned: list[str] = field(default_factory=list)
    presets: dict[str, Any] = field(default_factory=dict)
    modes: dict[str, Any] = field(default_factory=dict)
    reads: list[Place] = field(default_factory=list)
    fills: list[Place] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        row = self.row
        if self.asked != row.name:
            opposite = ", the opposite way round" if self.other_names.get(self.asked) else ""
            yield f"{self.asked} is another name of {row.name}{opposite}."
            yield ""
        yield f"{row.name}: {row.meaning}"
        yield ""
        facts = [
            ("default", f"{row.default}{''.join(f'; {mode}: {value}' for mode, value in self.modes.items())}"),
            ("allowed", row.allowed),
            ("read by", ", ".join(row.modes)),
            ("effect", self.effect),
            ("write", f"{row.name}={_example(row)} on the command line, {row.name}={_example(row)!r} in Python"),
            ("group", row.group),
            ("other names", ", ".join(f"{name}{' (opposite)' * turned}" for name, turned in self.other_names.items())),
            ("not called", ", ".join(self.not_accepted)),
            ("in Ultralytics", "no, it is ours" if row.new else "yes, the same name"),
            ("same thing", f"{', '.join(self.rivals)}: the one given later replaces the other" if self.rivals else ""),
            ("checked with", ", ".join(self.joined)),
            ("see also", ", ".join(self.mentioned)),
            ("presets", ", ".join(f"{name}: {value}" for name, value in self.presets.items())),
            ("filled by", _places(self.fills)),
            ("read in", _places(self.reads)),
        ]  # fmt: skip
        width = max(len(title) for title, text in facts if text)
        for title, text in facts:
            if text:
                first, *rest = textwrap.wrap(text, 116 - width, break_long_words=False) or [""]
                yield f"  {title.ljust(width)}  {first}"
                yield from (f"  {' ' * width}  {line}" for line in rest)


def explain(asked: str) -> Explanation:
    """All about a setting, by its name, an old name or a synonym.

    Raises:
        UnknownSettingError: there is no such setting (the message has the nearest names), or it is not here yet.
    """
    name = _known(asked)
    row = table.ROW[name]
    renamed = {old: turned for old, (new, turned) in names.RENAMED.items() if new == name}
    synonyms = {other: False for other, new in names.SYNONYMS.items() if new == name}
    uses = places(name)
    return Explanation(
        row=row,
        asked=asked,
        effect=EFFECTS.get(name, ""),
        other_names={**renamed, **synonyms},
        not_accepted=[alias for alias, new in names.ALIASES.items() if new == name],
        rivals=[other for pair in RIVALS.items() if name in pair for other in pair if other != name],
        joined=_joined(name),
        mentioned=_mentioned(name),
        presets=in_presets(name),
        modes={mode: values[name] for mode, values in MODE_DEFAULTS.items() if name in values},
        reads=[place for place in uses if not place.writes],
        fills=[place for place in uses if place.writes],
    )


def _known(asked: str) -> str:
    if asked in DEFAULTS:
        return asked
    if asked in names.RENAMED:
        return names.RENAMED[asked][0]
    if asked in names.SYNONYMS:
        return names.SYNONYMS[asked]
    if asked in names.LATER:
        raise UnknownSettingError(
            f"'{asked}' exists in Ultralytics, not in sightline yet: it comes with {names.LATER[asked].brings}."
        )
    if asked in names.DROPPED:
        raise UnknownSettingError(f"'{asked}' has no effect any more and is ignored where it is given.")
    raise UnknownSettingError(names.unknown_message(asked, DEFAULTS))


def _joined(name: str) -> list[str]:
    """Settings in the conditions of `Settings._fit_together` that ask for this one."""
    rules: Any = Settings._fit_together  # pydantic's wrapper, of which inspect finds the source
    tree = ast.parse(textwrap.dedent(inspect.getsource(rules)))
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.If):
            continue
        asked = [each.attr for each in ast.walk(node.test) if isinstance(each, ast.Attribute) and each.attr in DEFAULTS]
        if name in asked:
            found.update(dict.fromkeys(other for other in asked if other not in (name, "mode")))
    return list(found)


def _mentioned(name: str) -> list[str]:
    """By one of the two meanings. Names that are plain words, such as `scale`, mean nothing in a sentence."""
    telling = [other for other in DEFAULTS if re.search(r"[_\d]", other) or other in ("batch", "epochs", "freeze")]
    there = [other for other in telling if other != name and _has_word(table.ROW[name].meaning, other)]
    if name in telling:
        there += [row.name for row in table.ROWS if row.name != name and _has_word(row.meaning, name)]
    stem = name.split("_")[0]
    family = [other for other in DEFAULTS if other != name and len(stem) > 1 and other.split("_")[0] == stem]
    return list(dict.fromkeys([*there, *family]))[:MOST_RELATED]


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<![\w]){re.escape(word)}(?![\w])", text) is not None


def in_presets(name: str) -> dict[str, Any]:
    """Preset → the value that it has for this setting."""
    return {preset: values[name] for preset, values in _presets().items() if name in values}


@functools.cache
def _presets() -> dict[str, dict[str, Any]]:
    return {preset: yaml.safe_load(preset_text(preset)) or {} for preset in preset_names()}


def _example(row: table.Row) -> Any:
    if row.default is not None:
        return row.default
    return {"a number": 0.5, "a whole number": 2, "True or False": True}.get(row.kind.removesuffix(" or None"), "…")


def _places(found: list[Place]) -> str:
    shown = ", ".join(str(place) for place in found[:MOST_PLACES])
    return f"{shown} and {len(found) - MOST_PLACES} more" if len(found) > MOST_PLACES else shown
