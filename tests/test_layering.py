"""Imports point one way: each group imports only from groups to its left, never from a neighbour (architecture.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "sightline"
ORDER = [
    ["errors", "log"],
    ["files"],
    ["download"],
    ["config", "ops"],
    ["structures"],
    ["data", "nn", "losses", "metrics"],
    ["models"],
    ["artifacts"],
    ["report", "diagnosis"],
    ["callbacks"],
    ["backends"],
    ["validate", "predict"],
    ["export"],
    ["train"],
    ["tasks"],
    ["tune", "doctor"],
    ["facade"],
    ["compat"],
    ["cli"],
]
RANK = {name: rank for rank, group in enumerate(ORDER) for name in group}
NO_SETTINGS = {"ops", "nn", "losses", "metrics"}


def files() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] not in EXEMPT)


EXEMPT = {"__init__.py", "__main__.py"}


def group_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_groups(tree: ast.AST) -> set[tuple[str, int]]:
    """(group, line) of every import of our own that runs; those under TYPE_CHECKING are for annotations only."""
    found: set[tuple[str, int]] = set()

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.orelse:
                walk(child)
            return
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sightline":
            parts = node.module.split(".")
            names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
            found.update((name, node.lineno) for name in names)
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "sightline" and len(parts) > 1:
                    found.add((parts[1], node.lineno))
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(tree)
    return found


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_point_left(path: Path):
    group = group_of(path)
    assert group in RANK, f"{group} is no room of architecture.md"
    for other, line in imported_groups(ast.parse(path.read_text(encoding="utf-8"))):
        if other in (group, "__version__"):
            continue
        assert other in RANK, f"{path}:{line} imports {other}, which is no room of architecture.md"
        assert RANK[other] < RANK[group], f"{path.relative_to(SOURCE)}:{line}: {group} must not import {other}"
        assert not (group in NO_SETTINGS and other == "config"), f"{path}:{line}: {group} must not see settings"


def test_the_walker_sees_a_wrong_import():
    tree = ast.parse("def f():\n    from sightline.train.trainer import BaseTrainer\n")
    assert imported_groups(tree) == {("train", 2)}


# ---- which task it is, only the table of tasks knows --------------------------------------------------------------


def task_comparisons(tree: ast.AST) -> set[int]:
    """Lines that compare a task with one that is written there, or match on it."""

    def is_task(node: ast.AST) -> bool:
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Subscript(slice=ast.Constant(value=name)):
                return name == "task"
            case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=name), *_]):
                return name == "task"
        return False

    def is_written(node: ast.AST) -> bool:
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            return any(is_written(each) for each in node.elts)
        return isinstance(node, ast.Constant) and isinstance(node.value, str)

    compared = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(map(is_task, [node.left, *node.comparators]))
        and any(map(is_written, [node.left, *node.comparators]))
    ]
    matched = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Match) and is_task(node.subject)]
    return {*compared, *matched}


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_file_asks_which_task_it_is(path: Path):
    """A task is a row of tasks.py and its files; one that needs an `if` elsewhere shows that a method is missing."""
    lines = task_comparisons(ast.parse(path.read_text(encoding="utf-8")))
    assert not lines or path.name == "tasks.py", f"{path.relative_to(SOURCE)}: {sorted(lines)}"


def test_the_walker_sees_a_question_for_the_task():
    asks = ["self.task == 'pose'", "task in ('pose', 'rtdetr')", "'pose' != args['task']", "args.get('task') == 'pose'"]
    tree = ast.parse("\n".join([*asks, "match net.task:", " case 'pose':", "  pass", "task in TASKS", "task == other"]))
    assert task_comparisons(tree) == {1, 2, 3, 4, 5}
