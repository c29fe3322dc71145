"""Where a setting is read and where it is filled in, found in our own source when somebody asks.

A table would be out of date after the next change of the code; looking takes a fraction of a second. What is found:
`settings.lr0` for whatever settings are called in that file, `getattr(settings, "lr0")` and its like, and names in a
list that a loop of the same file reads by, or in a dict that it fills in from. A value that was handed on as an
argument is somebody else's from there.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parents[1]
# What the settings of a run are called where they are used: `self.args.lr0`, `settings.lr0`, `hyp.box`.
OWNERS = frozenset({"args", "settings", "cfg", "hyp", "checked", "_settings", "trainer"})
NOT_OF_A_TRAINER = "trainer"  # `trainer.epochs` is its own attribute; as an argument it stands for its settings
FILLS = frozenset({"assign", "fill_auto", "_fill"})


class Place(NamedTuple):
    """A line of our source."""

    file: str  # below sightline/, such as train/optim.py
    line: int
    function: str  # `Class.method`; "" outside any
    writes: bool  # the setting is filled in there, not read

    def __str__(self) -> str:
        return f"{self.file}:{self.line}{f' ({self.function})' if self.function else ''}"


def places(name: str, package: Path = PACKAGE) -> list[Place]:
    """Every function that reads or fills a setting, file by file. Empty where there is no source (a zip)."""
    found: dict[tuple[str, str, bool], Place] = {}
    for relative, file in _sources(package):
        if name not in _text(file):
            continue  # parsing all files would take seconds
        for what, line, function, writes in _uses(file):
            if what == name:  # the first line of each function is enough
                found.setdefault((relative, function, writes), Place(relative, line, function, writes))
    return list(found.values())


Use = tuple[str, int, str, bool]  # name, line, function, writes


@functools.cache
def _sources(package: Path) -> list[tuple[str, Path]]:
    """Path below the package and file. The fields themselves, in config/groups/, are no readers."""
    files = sorted((file.relative_to(package).as_posix(), file) for file in package.rglob("*.py"))
    return [(relative, file) for relative, file in files if not relative.startswith("config/groups/")]


@functools.cache
def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@functools.cache
def _uses(file: Path) -> tuple[Use, ...]:
    tree = ast.parse(_text(file))
    uses = _in_tree(tree, _aliases(tree), _reads_by_name(tree), _fills_by_name(tree))
    return tuple(sorted(uses, key=lambda use: use[1]))


def _aliases(tree: ast.AST) -> frozenset[str]:
    """`s` after `s = self.args`, and in `def f(s: Settings)`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.Attribute, ast.Name)) and _owns(node.value):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
        if isinstance(node, ast.arg) and node.annotation is not None and "Settings" in ast.unparse(node.annotation):
            found.add(node.arg)
    return frozenset(found)


def _reads_by_name(tree: ast.AST) -> bool:
    """Whether a file has `getattr(settings, name)`: then the names in its lists are read."""
    return any(
        isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "getattr"
        and _owns(node.args[0])
        and not isinstance(node.args[1], ast.Constant)
        for node in ast.walk(tree)
    )


def _fills_by_name(tree: ast.AST) -> bool:
    """Whether a file has `settings.fill_auto(name, value)`: then the keys of its dicts are filled in."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and _last(node.func) == "fill_auto")
    return any(isinstance(call.args[0], ast.Name) for call in calls if call.args)


def _in_tree(tree: ast.AST, aliases: frozenset[str], reads_by_name: bool, fills_by_name: bool) -> Iterator[Use]:
    waiting: list[tuple[ast.AST, str]] = [(tree, "")]
    while waiting:
        parent, within = waiting.pop()
        for node in ast.iter_child_nodes(parent):
            inner = within
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                inner = f"{within}.{node.name}" if within else node.name
            waiting.append((node, inner))
            if isinstance(node, ast.Attribute) and _owns(node.value, aliases) and _last(node.value) != NOT_OF_A_TRAINER:
                yield node.attr, node.lineno, inner, isinstance(node.ctx, ast.Store)
            elif isinstance(node, ast.Call):
                yield from _of_call(node, inner, aliases)
            elif fills_by_name and isinstance(node, ast.Dict):
                keys = [key for key in node.keys if key is not None]
                yield from ((name, node.lineno, inner, True) for name in _words(keys))
            elif reads_by_name and isinstance(node, ast.Subscript):
                yield from ((name, node.lineno, inner, False) for name in _words([node.slice]))
            elif reads_by_name and isinstance(node, (ast.Tuple, ast.List, ast.Set)):
                yield from ((name, node.lineno, inner, False) for name in _words(node.elts))


def _of_call(node: ast.Call, within: str, aliases: frozenset[str]) -> Iterator[Use]:
    called, words = _last(node.func), list(_words(node.args))
    if called in FILLS:
        names = [*words[:1], *(each.arg for each in node.keywords if each.arg)]
        yield from ((name, node.lineno, within, True) for name in names)
    elif any(_owns(each, aliases) for each in node.args) or (
        isinstance(node.func, ast.Attribute) and (_owns(node.func.value, aliases) or called == "_gain")
    ):
        yield from ((name, node.lineno, within, False) for name in words)


def _words(nodes: list[ast.expr]) -> Iterator[str]:
    return (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def _owns(node: ast.expr, aliases: frozenset[str] = frozenset()) -> bool:
    """Whether an expression is what the settings of a run are called."""
    return _last(node) in OWNERS or (isinstance(node, ast.Name) and node.id in aliases)


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
