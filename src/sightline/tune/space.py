"""The search space: which settings are searched, and between which values.

In YAML, or as a dict from Python:

    lr0: {factor: 10}                              # a tenth of what it would be to ten times of it
    weight_decay: {low: 0.0001, high: 0.01, log: true}
    imgsz: {low: 256, high: 640, step: 64}
    optimizer: {choices: [SGD, AdamW, MuSGD]}

Whether a setting of it does anything in a run, in_force.py finds out.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sightline.config import names, table
from sightline.config.kinds import FIND
from sightline.config.settings import DEFAULTS, Settings
from sightline.errors import (
    MissingInputError,
    SettingsError,
    SettingTypeError,
    SettingValueError,
    UnknownSettingError,
)

PACKAGED = Path(__file__).with_name("space.yaml")
WORDS = ("low", "high", "log", "step", "choices", "factor")
EXAMPLE = "lr0: {low: 0.001, high: 0.1, log: true}, optimizer: {choices: [SGD, AdamW]} or lr0: {factor: 10}"
CHECKED_BETWEEN = 9  # places of a range at which the setting is asked; focal_gamma, for one, allows 0 and 1 to 10


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        log: the same chance for every factor, as learning rates want it.
        step: only low, low + step, low + 2·step, …
        whole: whole numbers, because the setting takes no others.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def contains(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    def at(self, share: float) -> float:
        """The value at a share of the way, 0 to 1."""
        if self.log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        if self.step:
            value = self.low + round((value - self.low) / self.step) * self.step
        value = min(max(value, self.low), self.high)  # exp(log(x)) need not be x
        return round(value) if self.whole else value

    def ends(self) -> list[Any]:
        return [self.at(0.0), self.at(1.0)]

    def describe(self) -> str:
        step = f", in steps of {self.step:g}" if self.step else ""
        return f"{self.low:.4g} to {self.high:.4g}{' (log)' if self.log else ''}{step}"


@dataclass(frozen=True)
class Choices:
    """One of a few values: numbers, text, True, False or None."""

    values: tuple[Any, ...]

    def contains(self, value: Any) -> bool:
        return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in self.values)

    def at(self, share: float) -> Any:
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def ends(self) -> list[Any]:
        return list(self.values)

    def describe(self) -> str:
        return ", ".join(map(str, self.values))


@dataclass(frozen=True)
class Factor:
    """From value/factor to value × factor, once it is known what the setting would be without the search."""

    factor: float

    def around(self, name: str, value: Any) -> Range:
        """
        Raises:
            SettingValueError: there is no such range, because the value is 0 or no number.
        """
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise SettingValueError(
                f"{name}: factor={self.factor:g} is around what the setting would be, and that is {value}: say the "
                "range, such as {low: 0, high: 1}."
            )
        row = table.ROW[name]
        low, high = value / self.factor, value * self.factor
        if _allows(name, low) and not _allows(name, high) and _allows(name, 1.0) and value < 1.0 < high:
            high = 1.0  # settings that are shares end there
        whole = row.kind.startswith("a whole number")
        return _checked_range(name, Range(round(low) if whole else low, round(high) if whole else high, True, None))


Dimension = Range | Choices
Space = dict[str, Dimension]
OpenSpace = dict[str, Dimension | Factor]


def read_space(source: str | Path | Mapping[str, Any] | None) -> tuple[OpenSpace, str]:
    """The space, checked against the settings, and what to call it in messages.

    Args:
        source: a YAML file, a dict, or None for the packaged one.

    Raises:
        MissingInputError: there is no such file.
        UnknownSettingError, SettingTypeError, SettingValueError: with file, line and setting.
    """
    if source is None:
        source, called = PACKAGED, "the built-in space"
    elif isinstance(source, Mapping):
        return _read(dict(source), {}, "space"), "space"
    elif isinstance(source, (str, Path)):
        called = Path(source).name
    else:
        raise SettingTypeError(
            f"space={source!r:.80} ({type(source).__name__}) is not allowed. Give a YAML file or a dict: {EXAMPLE}."
        )
    file = Path(source).expanduser()
    if not file.is_file():
        raise MissingInputError(f"space={source}: there is no such file. One begins like this: {EXAMPLE}.")
    try:
        text = file.read_text(encoding="utf-8")
        values, node = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingTypeError(f"{file} cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        raise SettingTypeError(f"{file}: a search space is a table of settings, such as {EXAMPLE}.")
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.value in lines:
            raise SettingValueError(
                f"{called} line {line}: {key.value} is there twice, first in line {lines[key.value]}."
            )
        lines[key.value] = line
    return _read(values, lines, called), called


def _read(values: Mapping[Any, Any], lines: Mapping[str, int], called: str) -> OpenSpace:
    if not values:
        raise SettingValueError(f"{called} is empty: there is nothing to search. Example: {EXAMPLE}.")
    space: OpenSpace = {}
    for name, given in values.items():
        where = f"{called} line {lines[name]}: " if name in lines else f"{called}: "
        try:
            if name not in DEFAULTS:
                raise UnknownSettingError(_unknown(str(name)))
            space[name] = _dimension(name, given)
        except SettingsError as error:
            raise type(error)(f"{where}{error}") from None
    return space


def _unknown(name: str) -> str:
    if name in names.LATER:
        return names.not_yet_message(name, "…")
    if name in names.RENAMED:
        return f"'{name}' is the old name of {names.RENAMED[name][0]}."
    if name in names.SYNONYMS:
        return f"'{name}' is another name of {names.SYNONYMS[name]}, which is the one to write here."
    return names.unknown_message(name, DEFAULTS)


def _dimension(name: str, given: Any) -> Dimension | Factor:
    given = _from_ray(given)
    if isinstance(given, (list, tuple)) and len(given) in (2, 3) and all(_is_number(each) for each in given):
        given = {"low": given[0], "high": given[1]}  # as the tuner of Ultralytics has it; a third one is a gain of its
    if not isinstance(given, Mapping):
        raise SettingTypeError(f"{name}={given!r:.80} is no range. Write for example {EXAMPLE}.")
    unknown = [str(word) for word in given if word not in WORDS]
    if unknown:
        raise SettingValueError(f"{name}: there is no '{unknown[0]}' in a range. There is: {', '.join(WORDS)}.")
    kinds = [kind for kind in ("choices", "factor", "low") if kind in given]
    alone = {"choices": {"choices"}, "factor": {"factor"}}
    if len(kinds) != 1 or set(given) - alone.get(kinds[0], {"low", "high", "log", "step"}):
        raise SettingValueError(f"{name}: a range is either low and high, or choices, or a factor. {EXAMPLE}.")
    if "choices" in given:
        return _choices(name, given["choices"])
    if "factor" in given:
        factor = given["factor"]
        if not _is_number(factor) or not 1 < factor < math.inf:
            raise SettingValueError(f"{name}: factor={factor!r} is not allowed. It must be a number above 1.")
        return Factor(float(factor))
    return _range(name, given)


def _range(name: str, given: Mapping[str, Any]) -> Range:
    numbers = {
        word: _number(name, word, given[word]) for word in ("low", "high", "step") if given.get(word) is not None
    }
    if "high" not in numbers:
        raise SettingValueError(f"{name}: low without high. Write for example {{low: 0.001, high: 0.1}}.")
    log, low, high, step = given.get("log", False), numbers["low"], numbers["high"], numbers.get("step")
    if not isinstance(log, bool):
        raise SettingTypeError(f"{name}: log={log!r} must be true or false.")
    if not low < high:
        raise SettingValueError(f"{name}: low={low:g} must be below high={high:g}.")
    if log and low <= 0:
        raise SettingValueError(f"{name}: log: true needs low above 0, not {low:g}: 0 is infinitely many factors away.")
    if step is not None and (log or not 0 < step <= high - low):
        reason = (
            "and log: true do not go together" if log else f"must be above 0 and at most high - low = {high - low:g}"
        )
        raise SettingValueError(f"{name}: step={step:g} {reason}.")
    return _checked_range(name, Range(low, high, log, step))


def _checked_range(name: str, wanted: Range) -> Range:
    """With whole numbers where the setting takes no others; every part of it must be allowed."""
    if "number" not in table.ROW[name].kind:
        raise SettingTypeError(f"{name} is {table.ROW[name].kind}, so it has no range: give choices.")
    low, high = (_value(name, end) for end in (wanted.low, wanted.high))
    whole = all(isinstance(end, int) for end in (low, high)) and table.ROW[name].kind.startswith("a whole number")
    if whole and wanted.step is not None and not float(wanted.step).is_integer():
        raise SettingValueError(f"{name}: step={wanted.step:g} must be a whole number, as the setting is.")
    found = Range(wanted.low, wanted.high, wanted.log, wanted.step, whole)
    for place in range(1, CHECKED_BETWEEN):
        _value(name, found.at(place / CHECKED_BETWEEN))
    return found


def _choices(name: str, given: Any) -> Choices:
    if not isinstance(given, (list, tuple)) or len(given) < 2:
        raise SettingValueError(f"{name}: choices={given!r:.80} must be a list of two or more values.")
    if any(each is not None and not isinstance(each, (bool, int, float, str)) for each in given):
        raise SettingTypeError(f"{name}: choices can be numbers, text, true, false and null, not lists or tables.")
    if name == "lr0" and FIND in given:
        raise SettingValueError(f"lr0: choices={list(given)}: {FIND} is no value; every trial would look for its own.")
    read = [(_value(name, each), each) for each in given]
    values = [value if isinstance(value, str) else each for value, each in read]  # adamw → AdamW
    if len({(type(each).__name__, each) for each in values}) < len(values):
        raise SettingValueError(f"{name}: choices={values} has a value twice.")
    return Choices(tuple(values))


def _value(name: str, value: Any) -> Any:
    """What the setting makes of a value."""
    return getattr(Settings(**{name: value}), name)


def _allows(name: str, value: Any) -> bool:
    try:
        _value(name, value)
    except SettingsError:
        return False
    return True


def _number(name: str, word: str, value: Any) -> float:
    if isinstance(value, str):  # PyYAML hands on 1e-3 as text
        with contextlib.suppress(ValueError):
            value = float(value)
    if not _is_number(value):
        raise SettingTypeError(f"{name}: {word}={value!r} must be a number.")
    return value if isinstance(value, int) else float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _from_ray(given: Any) -> Any:
    """A domain of Ray Tune, such as tune.uniform(0.1, 0.9), as scripts for Ultralytics give it."""
    if not type(given).__module__.startswith("ray.tune"):
        return given
    if hasattr(given, "categories"):
        return {"choices": list(given.categories)}
    sampler = given.get_sampler()
    step = getattr(sampler, "q", None)  # quantized
    inner = getattr(sampler, "sampler", sampler)
    found = {"low": given.lower, "high": given.upper, "log": "Log" in type(inner).__name__, "step": step}
    if type(given).__name__ == "Integer":
        found["high"] -= 1  # it is left out there
    return {word: value for word, value in found.items() if value is not None}


def to_plain(space: Mapping[str, Dimension]) -> dict[str, dict[str, Any]]:
    """As `read_space` takes it."""
    plain: dict[str, dict[str, Any]] = {}
    for name, dimension in space.items():
        if isinstance(dimension, Choices):
            plain[name] = {"choices": list(dimension.values)}
        else:
            plain[name] = {"low": dimension.low, "high": dimension.high}
            plain[name] |= {"log": True} if dimension.log else {}
            plain[name] |= {"step": dimension.step} if dimension.step else {}
    return plain
