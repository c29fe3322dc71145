"""Arithmetic over metrics: `0.9*metrics/mAP50-95(B) + 0.1*metrics/recall(B)`, `-val/box_loss`, `min(recall, f1)`.

Names of metrics contain `/`, `-` and brackets, so they are found first, the longest first; what is left between them is
read as arithmetic. Nothing in the text is executed.
"""

from __future__ import annotations

import ast
import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping

from sightline.errors import SettingValueError

LONGEST = 500  # characters; longer ones are mistakes, and a parser has its limits
LIKENESS = 0.5  # of difflib; the names are short, f2 and f1 share half
FUNCTIONS: dict[str, Callable[..., float]] = {"min": min, "max": max}
OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_WORD = re.compile(r"(?<![\w.])[^\W\d]\w*")  # a name; the e of 1e-3 is none
_PLACE = "m{}_"  # stands for the metric of this number while the rest is read


class Expression:
    """A number made of metrics.

    Args:
        text: numbers, metrics, `+ - * / **`, brackets, `min(…)` and `max(…)`.
        known: full names of the metrics there are; a short form that only one of them has will do (`names_of`).
        setting: what the errors call it.

    Attributes:
        text: as it was given.
        keys: the metrics in it, full names, each once.

    Raises:
        SettingValueError: a name is unknown or could mean several; the rest is no arithmetic; no metric is in it.
    """

    def __init__(self, text: str, known: Iterable[str], *, setting: str = "fitness") -> None:
        self.text = text
        self._setting = setting
        if len(text) > LONGEST:
            raise self._error(f"the expression has {len(text)} characters, at most {LONGEST} are allowed")
        names = names_of(known)
        parts = _pattern(names).split(text)  # what stands between metrics, and at odd places the metrics
        self._check_words(parts, names)
        self.keys: tuple[str, ...] = tuple(dict.fromkeys(self._key(name, names) for name in parts[1::2]))
        if not self.keys:
            raise self._error("there is no metric in it, so it would be the same after every epoch")
        places = {key: _PLACE.format(number) for number, key in enumerate(self.keys)}
        parts[1::2] = [places[self._key(name, names)] for name in parts[1::2]]
        try:
            self._tree = ast.parse("".join(parts).strip(), mode="eval").body
            self._check(self._tree)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise self._error("it is not arithmetic: numbers, metrics, + - * / **, ( ), min(…) and max(…)") from None

    def __call__(self, values: Mapping[str, float | None]) -> float:
        """The number; NaN if it is undefined: a division by zero, or a metric that is None, NaN or missing."""
        found = [values.get(key) for key in self.keys]
        numbers = {_PLACE.format(i): math.nan if value is None else float(value) for i, value in enumerate(found)}
        try:
            result = _evaluate(self._tree, numbers)
        except (ZeroDivisionError, OverflowError):
            return math.nan
        # A root of a negative number is complex in Python.
        return result if isinstance(result, float) and math.isfinite(result) else math.nan

    def _key(self, name: str, names: Mapping[str, tuple[str, ...]]) -> str:
        if len(names[name]) > 1:
            raise self._error(f"'{name}' could be {' or '.join(names[name])}; write the one you mean")
        return names[name][0]

    def _check_words(self, parts: list[str], names: Mapping[str, tuple[str, ...]]) -> None:
        """Any name that is left beside the metrics is misspelt."""
        start = 0
        for place, part in enumerate(parts):
            for word in _WORD.finditer(part) if place % 2 == 0 else ():
                if word[0] not in FUNCTIONS:
                    raise self._unknown(start + word.start(), word[0], names)
            start += len(part)

    def _unknown(self, position: int, word: str, names: Mapping[str, tuple[str, ...]]) -> SettingValueError:
        around = [run[0] for run in re.finditer(r"[^\s+*,]+", self.text) if run.start() <= position < run.end()]
        written = around[0].lstrip("-(") if around else word
        short = ", ".join(sorted((name for name in names if "/" not in name and "(B)" not in name), key=str.lower))
        return self._error(f"'{written}' is no metric of this run. {nearest(written, names) or f'There are {short}'}")

    def _check(self, node: ast.AST) -> None:
        """Raises ValueError for anything but arithmetic on numbers and metrics."""
        match node:
            case ast.BinOp(left, op, right) if type(op) in OPERATORS:
                self._check(left)
                self._check(right)
            case ast.UnaryOp(op, operand) if type(op) in OPERATORS:
                self._check(operand)
            case ast.Call(ast.Name(name), args, []) if name in FUNCTIONS and args:
                for argument in args:
                    self._check(argument)
            case ast.Name(name) if name not in FUNCTIONS:
                pass
            case ast.Constant(int() | float()):
                pass
            case _:
                raise ValueError

    def _error(self, problem: str) -> SettingValueError:
        shown = self.text if len(self.text) <= 80 else f"{self.text[:77]}..."
        return SettingValueError(f"{self._setting}={shown}: {problem}{'' if problem.endswith('?') else '.'}")


def names_of(keys: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Every way to write a metric → the full names it can mean.

    `metrics/mAP50(B)` is also `metrics/mAP50`, `mAP50(B)` and `mAP50`; `val/box_loss` also `box_loss`;
    `metrics/f1(B)/RBC` also `f1/RBC`. A full name means itself alone.
    """
    keys = list(dict.fromkeys(keys))
    meanings: dict[str, list[str]] = {}
    for key in keys:
        bare = key.partition("/")[2]
        for name in {bare, key.replace("(B)", "", 1), bare.replace("(B)", "", 1)} - {"", key}:
            meanings.setdefault(name, []).append(key)
    return {**{name: tuple(found) for name, found in meanings.items()}, **{key: (key,) for key in keys}}


def nearest(name: str, names: Iterable[str]) -> str:
    """A question with the names that were probably meant; empty where none is near."""
    folded = {each.lower(): each for each in names}
    found = [folded[near] for near in difflib.get_close_matches(name.lower(), list(folded), n=3, cutoff=LIKENESS)]
    return f"Did you mean {' or '.join(found)}?" if found else ""


def _pattern(names: Iterable[str]) -> re.Pattern[str]:
    """Finds metrics in a text, the longest first; a part of a longer word is none."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile(rf"(?<!\w)({'|'.join(map(re.escape, longest_first)) or '(?!)'})(?!\w)")


def _evaluate(node: ast.AST, numbers: Mapping[str, float]) -> float:
    match node:
        case ast.BinOp(left, op, right):
            return OPERATORS[type(op)](_evaluate(left, numbers), _evaluate(right, numbers))
        case ast.UnaryOp(op, operand):
            return OPERATORS[type(op)](_evaluate(operand, numbers))
        case ast.Call(ast.Name(name), args):
            values = [_evaluate(argument, numbers) for argument in args]
            # min(nan, 1) depends on the order in Python.
            return math.nan if any(value != value for value in values) else FUNCTIONS[name](values)
        case ast.Name(name):
            return numbers[name]
        case ast.Constant(value):
            return float(value)  # type: ignore[arg-type]  # `_check` let only numbers in
    raise AssertionError(ast.dump(node))
