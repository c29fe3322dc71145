"""Runs grouped into recipes: the same settings, other seeds."""

from __future__ import annotations

import glob
import itertools
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.artifacts.run_record import RunRecord
from sightline.config.settings import DEFAULTS
from sightline.errors import MissingFileError

# What tells two runs of one recipe apart, and where it was written down. A resumed run ends as one that never stopped.
NOT_THE_RECIPE = frozenset(
    {
        "seed",
        "name",
        "save_dir",
        "project",
        "exist_ok",
        "resume",
        "mode",
        "cfg",
        "verbose",
        "plots",
        "report",
        "loggers",
    }
)
LOSSES = ("train/", "val/")


@dataclass
class Recipe:
    """Runs with the same settings but for their seeds.

    Attributes:
        name: short, for people.
        runs: in the order of their seeds.
        repeated: runs left out because their seed is there already: they repeat it, they are no evidence of their own.
    """

    name: str
    runs: list[RunRecord]
    repeated: list[RunRecord] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        return self.runs[0].settings

    def values(self, column: str, *, at: str) -> list[float]:
        """One number a run, at the "end" or the "best" epoch; NaN where a run has none."""
        if at == "best":
            return [run.best(column, higher_is_better=higher_is_better(column)) for run in self.runs]
        return [run.last(column) for run in self.runs]


def find_runs(places: Sequence[str | Path]) -> list[str]:
    """Run folders out of what somebody typed. Patterns that the shell has left are looked up; a run counts once.

    Raises:
        MissingFileError: a pattern matches nothing.
    """
    found: dict[str, str] = {}
    for place in places:
        text = os.path.expanduser(str(place))
        is_pattern = glob.has_magic(text) and not os.path.exists(text)
        matches = [name for name in sorted(glob.glob(text)) if _may_be_run(name)] if is_pattern else [text]
        if not matches:
            raise MissingFileError(f"No run matches {place}. Give run folders, such as runs/detect/train.")
        for match in matches:
            folder = Path(match).resolve()
            folder = folder.parent if folder.is_file() and folder.name == "results.csv" else folder
            found.setdefault(str(folder), match)
    return list(found.values())


def _may_be_run(name: str) -> bool:
    """Other files that lie beside runs are not meant by a pattern."""
    return os.path.isdir(name) or name.endswith(".csv")


def group(runs: Sequence[RunRecord]) -> list[Recipe]:
    """Runs whose settings agree but for `NOT_THE_RECIPE`, in the order given. One without args.yaml stands alone."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        recipe = recipe_of(run.settings)
        groups.setdefault(key_of(recipe) if recipe else str(run.folder.resolve()), []).append(run)
    names = _names(list(groups.values()))
    return [_recipe(name, members) for name, members in zip(names, groups.values(), strict=True)]


def recipe_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting but `NOT_THE_RECIPE`; one that a run of an older version lacks is at its default."""
    if not settings:
        return {}
    return {name: value for name, value in {**DEFAULTS, **settings}.items() if name not in NOT_THE_RECIPE}


def _recipe(name: str, runs: list[RunRecord]) -> Recipe:
    by_seed: dict[Any, RunRecord] = {}
    repeated = []
    for run in runs:
        seed = run.settings.get("seed", run.folder)
        if seed in by_seed:
            repeated.append(run)
        else:
            by_seed[seed] = run
    return Recipe(name, sorted(by_seed.values(), key=lambda run: _seed(run)), repeated)


def _seed(run: RunRecord) -> float:
    seed = run.settings.get("seed")
    return float(seed) if isinstance(seed, (int, float)) else math.inf


def higher_is_better(column: str) -> bool:
    return not column.startswith(LOSSES)


def key_of(value: Any) -> str:
    """Equal for equal settings: `1.0` of one file and `1` of another are one value."""
    if isinstance(value, dict):
        value = {str(name): key_of(each) for name, each in value.items()}
    elif isinstance(value, list):
        value = [key_of(each) for each in value]
    elif isinstance(value, float) and value.is_integer() and not isinstance(value, bool):
        value = int(value)
    return json.dumps(value, sort_keys=True, default=str)


def _names(groups: list[list[RunRecord]]) -> list[str]:
    """What the folders of a group have in common, without the number at its end; letters where that is not unique."""
    names = []
    for runs in groups:
        common = _common_beginning([run.folder.resolve().name for run in runs])
        if len(runs) > 1:
            common = re.sub(r"([-_. ]+(seed|s|run)?)?[-_. ]*\d*$", "", common)
        names.append(common or runs[0].folder.resolve().parent.name)
    if len(set(names)) < len(names):
        names = [f"{chr(ord('a') + i % 26)}{i // 26 or ''}" for i in range(len(groups))]
    return names


def _common_beginning(words: Sequence[str]) -> str:
    letters = zip(*words, strict=False)
    return "".join(each[0] for each in itertools.takewhile(lambda column: len(set(column)) == 1, letters))
