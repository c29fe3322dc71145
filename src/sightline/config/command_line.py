"""The grammar of the command line: `[task] mode key=value …` in any order.

`a = b` may have spaces, brackets may hold some, a leading `--` and a trailing comma are forgiven with a warning, a bare
name of a switch means True, and values are read as Python literals where they are some.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple

from sightline.config import names, table
from sightline.config.groups.field import ALL
from sightline.config.groups.run import LATER_MODES, LATER_TASKS, TASKS
from sightline.config.settings import DEFAULTS
from sightline.errors import CommandLineError, UnknownSettingError
from sightline.log import LOGGER

OPENING, CLOSING = "[({", "])}"
TEXT_SETTINGS = ("name", "project")  # `name=001` is a name, not a number
NONE_IS_A_WORD = ("lr_scale",)  # `lr_scale=none` is one of its words
PATH_SETTINGS = ("source", "data", "model", "cfg", "save_dir")  # `source=2024` may well be a folder
EXAMPLE = "sightline train model=yolo26n.yaml data=shapes epochs=100"


class CommandLine(NamedTuple):
    """What the words say."""

    task: str | None
    mode: str
    overrides: dict[str, Any]


def parse_command_line(words: Sequence[str]) -> CommandLine:
    """Read the words after `sightline`.

    Raises:
        CommandLineError: no mode, a word that is nothing we know, a setting without a value, unbalanced brackets.
        UnknownSettingError: `key=value` with a key that is no setting.
    """
    task: str | None = None
    mode: str | None = None
    overrides: dict[str, Any] = {}
    for word in merge_equals_args(words):
        word = _cleaned(word)
        if "=" in word:
            name, value = parse_key_value(word)
            _put(overrides, name, value)
        elif word in TASKS or word in LATER_TASKS:
            task = _once("task", task, word)
        elif word in ALL or word in LATER_MODES:
            mode = _once("mode", mode, word)
        else:
            _put(overrides, _bare_switch(word, mode), True)
    if "task" in overrides:
        task = _once("task", task, str(overrides.pop("task")))
    if "mode" in overrides:
        mode = _once("mode", mode, str(overrides.pop("mode")))
    names.current_names(overrides, DEFAULTS, quiet=True)
    return CommandLine(_known_task(task), _known_mode(mode), overrides)


def smart_value(text: str) -> Any:
    """`None`, `True` and `False` in any case, else a Python literal, else the text itself."""
    plain = {"none": None, "true": True, "false": False}
    if text.lower() in plain:
        return plain[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def parse_key_value(word: str) -> tuple[str, Any]:
    """`key=value`, split at the first `=`."""
    name, _, text = (part.strip() for part in word.partition("="))
    if not name:
        raise CommandLineError(f"'{word}' has no setting before the '='. Write setting=value, such as epochs=100.")
    if not text:
        raise CommandLineError(
            f"'{word}' has no value after the '='. Write {name}=value, without a space in the value."
        )
    if name in TEXT_SETTINGS:
        return name, None if text.lower() == "none" else text
    if name in NONE_IS_A_WORD:
        return name, text
    if name in PATH_SETTINGS and text.isdigit():
        return name, text
    return name, smart_value(text)


def merge_equals_args(words: Sequence[str]) -> list[str]:
    """Join what belongs together: `a = b`, `a= b`, `a =b`, and brackets that span words.

    Raises:
        CommandLineError: a bracket at the start of a value is not closed.
    """
    merged: list[str] = []
    for word in words:
        if merged and (word == "=" or (word.startswith("=") and "=" not in merged[-1])):
            merged[-1] += word  # `a` `=` or `a` `=b`
        elif merged and merged[-1].endswith("=") and merged[-1].count("=") == 1 and not _is_setting(word):
            merged[-1] += word  # `a=` `b`, but not `source=` `model=x.pt`, where a value was forgotten
        elif merged and _open_brackets(merged[-1]):
            merged[-1] += word
        else:
            merged.append(word)
    for word in merged:
        if _open_brackets(word):
            raise CommandLineError(
                f"'{word}' has brackets that do not match. Close them, and quote the value where the shell reads "
                "brackets: 'classes=[0,1]'."
            )
    return merged


def _is_setting(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name in DEFAULTS


def _open_brackets(word: str) -> int:
    """Brackets opened and not closed (below 0: too many closed), if the value begins with one."""
    value = word.partition("=")[2].strip() or word
    if value[:1] not in OPENING or not value:  # a file may well be called `photo(1.jpg`
        return 0
    return sum((character in OPENING) - (character in CLOSING) for character in value)


def _cleaned(word: str) -> str:
    """Without a leading `--` and a trailing comma, which other programs want."""
    clean = word.removeprefix("--").removesuffix(",") if len(word) > 1 else word
    if clean != word:
        LOGGER.warning(f"'{word}' is read as '{clean}': settings are written without dashes and commas.")
    return clean


def _put(overrides: dict[str, Any], name: str, value: Any) -> None:
    if name in overrides and overrides[name] != value:
        raise CommandLineError(f"{name} is given twice: {overrides[name]} and {value}. Keep one.")
    overrides[name] = value


def _once(what: str, before: str | None, word: str) -> str:
    if before is not None and before != word:
        raise CommandLineError(f"Two {what}s are given: {before} and {word}. Keep one.")
    return word


def _bare_switch(word: str, mode: str | None) -> str:
    """The name, if the word is that of a switch; else an error that says what the word could have been."""
    if word in names.LATER:
        raise UnknownSettingError(names.not_yet_message(word, True))
    if word in names.DROPPED or word in names.RENAMED or (word in DEFAULTS and "True" in table.ROW[word].kind):
        return word
    if word in DEFAULTS:
        example = f"{word}={DEFAULTS[word]}" if DEFAULTS[word] is not None else f"{word}=value"
        raise CommandLineError(f"'{word}' needs a value: {example}.")
    possible = [*TASKS, *(ALL if mode is None else ())]
    plain_words = difflib.get_close_matches(word.lower(), possible, n=1, cutoff=names.SMALLEST_LIKENESS)
    guess = [*_as_file(word), *plain_words, *names.suggest(word, DEFAULTS)]
    hint = f" Did you mean {' or '.join(guess[:3])}?" if guess else ""
    raise CommandLineError(
        f"'{word}' is neither a mode ({', '.join(ALL)}) nor a task ({', '.join(TASKS)}) nor setting=value.{hint} "
        f"Example: {EXAMPLE}"
    )


def _as_file(word: str) -> list[str]:
    """What a word that looks like a file was probably meant for."""
    if word.endswith((".yaml", ".yml")):
        return [f"data={word}", f"model={word}"]
    return [f"model={word}"] if word.endswith((".pt", ".safetensors")) else []


def _known_task(task: str | None) -> str | None:
    if task is None or task in TASKS:
        return task
    reason = "exists in Ultralytics, not in sightline yet" if task in LATER_TASKS else "is not a task"
    raise CommandLineError(f"task '{task}' {reason}. Allowed: {', '.join(TASKS)}.")


def _known_mode(mode: str | None) -> str:
    if mode is None:
        raise CommandLineError(f"No mode is given. Say one of {', '.join(ALL)}, for example: {EXAMPLE}")
    if mode in ALL:
        return mode
    near = difflib.get_close_matches(mode, ALL, n=1, cutoff=names.SMALLEST_LIKENESS)
    reason = "exists in Ultralytics, not in sightline yet" if mode in LATER_MODES else "is not a mode"
    hint = f" Did you mean {near[0]}?" if near else ""
    raise CommandLineError(f"mode '{mode}' {reason}. Allowed: {', '.join(ALL)}.{hint}")
