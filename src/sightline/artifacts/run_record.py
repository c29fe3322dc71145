"""A run as its folder tells it: the settings that really ran, where each came from, and the table of its epochs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sightline.artifacts.tables import ResultsTable
from sightline.errors import MissingFileError, SettingValueError

TABLE, SETTINGS = "results.csv", "args.yaml"
# `lr0: 0.02  # command line`: what `config.load.to_yaml` writes. A name begins at the margin; the last comment counts.
_ORIGIN = re.compile(r"^(\w+):.*  # ([^#]+)$")


@dataclass
class RunRecord:
    """One run.

    Attributes:
        folder: of the run.
        settings: setting → value of args.yaml; empty where there is none, as for tables of other programs.
        origins: setting → origin, of those that are no default.
        table: column of results.csv → a value an epoch, NaN where an epoch has none.
    """

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    table: dict[str, list[float]] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        return max((len(values) for values in self.table.values()), default=0)

    def last(self, column: str) -> float:
        """The last finite value of a column (the last epochs may not have been validated); NaN without one."""
        return next((value for value in reversed(self.table.get(column, [])) if math.isfinite(value)), math.nan)

    def best(self, column: str, *, higher_is_better: bool = True) -> float:
        values = [value for value in self.table.get(column, []) if math.isfinite(value)]
        return (max if higher_is_better else min)(values, default=math.nan)


def read_run(place: str | Path) -> RunRecord:
    """Read a run folder, its `weights` folder, or one of its files.

    Raises:
        MissingFileError: there is no results.csv.
        SettingValueError: it has no epochs, or no numbers, in it.
    """
    folder = Path(place).expanduser()
    csv = folder if folder.suffix == ".csv" else None
    if folder.is_file() or csv is not None:
        folder = folder.parent
    if folder.name == "weights":
        folder = folder.parent
    csv = csv or folder / TABLE
    if not csv.is_file():
        raise MissingFileError(
            f"{place} is no run: there is no {csv}. Give the folder that training printed, such as runs/detect/train, "
            "or its results.csv."
        )
    try:
        table = {name.strip(): values for name, values in ResultsTable(csv).read().items() if name}
    except (ValueError, TypeError) as error:
        raise SettingValueError(f"{csv} is no table of numbers ({error}).") from None
    if not any(table.values()):
        raise SettingValueError(f"{csv}: no epoch of this run is recorded yet. Look again after the first.")
    settings, origins = read_settings(folder / SETTINGS)
    return RunRecord(folder, settings, origins, table)


def read_settings(file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Values and origins of an args.yaml; both empty where it is missing or of another kind."""
    try:
        text = file.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}, {}
    if not isinstance(values, dict):
        return {}, {}
    found = (_ORIGIN.match(line) for line in text.splitlines())
    return values, {match[1]: match[2].strip() for match in found if match and match[1] in values}
