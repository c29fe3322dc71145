"""What the page shows of one run, as plain values: everything comes from its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.artifacts.events import NAME as EVENTS
from sightline.artifacts.events import read_events
from sightline.artifacts.validation_record import read_validation
from sightline.errors import MissingFileError
from sightline.report.commands import commands_of
from sightline.report.history import Column, marks_of, read_table, traces_of
from sightline.report.pictures import pictures_of, showcase_of
from sightline.report.settings_file import RunSetting, read_settings
from sightline.report.timing import timing_of


def run_folder(place: str | Path) -> Path:
    """The folder of a run, from itself, a file in it, or its weights folder.

    Raises:
        MissingFileError: it has neither results.csv nor events.jsonl.
    """
    folder = Path(place).expanduser()
    if folder.is_file():
        folder = folder.parent
    if folder.name == "weights":
        folder = folder.parent
    if not (folder / "results.csv").is_file() and not (folder / EVENTS).is_file():
        raise MissingFileError(
            f"{folder} is no run folder: it has neither results.csv nor {EVENTS}. Give the folder that training "
            "printed, such as runs/detect/train."
        )
    return folder.absolute()


def collect(folder: Path, *, picture_bytes: int) -> dict[str, Any]:
    """All that is known of a run.

    Args:
        folder: from `run_folder`.
        picture_bytes: what its pictures may take in the page.

    Raises:
        SettingValueError: results.csv is no table of numbers.
    """
    settings = read_settings(folder / "args.yaml")
    values = {setting.name: setting.value for setting in settings}
    table, events = read_table(folder / "results.csv"), list(read_events(folder / EVENTS))
    epochs = table.get("epoch", [])
    validation = read_validation(folder)
    showcase = showcase_of(validation or {}, budget=picture_bytes)
    best = best_epoch(table)
    setup = _last(events, "setup")
    return {
        "name": folder.name,
        "folder": str(folder),
        "task": values.get("task"),
        "model": values.get("model"),
        "data_name": values.get("data"),
        "epochs": len(epochs),
        "planned": _whole(values.get("epochs")),
        "finished": is_over(events) if events else validation is not None,
        "seconds": next((value for value in reversed(table.get("time", [])) if value is not None), None),
        "best": None if best is None else {"epoch": epochs[best], "metrics": _metrics(table, best)},
        "table": table,
        "traces": traces_of(events, epochs),
        "marks": marks_of(events),
        "settings": [_setting(setting) for setting in settings],
        "setup": setup,
        "data": _last(events, "data"),
        "environment": _last(events, "environment"),
        "timing": timing_of(events),
        "validation": validation,
        "showcase": showcase,
        "pictures": pictures_of(folder, budget=picture_bytes - sum(len(row["uri"]) for row in showcase)),
        "commands": commands_of(folder, settings),
    }


def best_epoch(table: Mapping[str, Column]) -> int | None:
    """The row of the epoch whose weights are in best.pt; None for a run without validation.

    A run with a fitness of its own has it as a column. Else it is mAP50-95, of boxes and keypoints together.
    """
    columns = [values for name, values in table.items() if name == "fitness" or name.startswith("fitness/")][:1]
    columns = columns or [values for name, values in table.items() if name.startswith("metrics/mAP50-95(")]
    sums = [_sum(row) for row in zip(*columns, strict=True)]
    known = [value for value in sums if value is not None]
    return sums.index(max(known)) if known else None


def is_over(events: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the run ended as it should: a resumed one has epochs after such an end, and may have another."""
    kinds = [event["event"] for event in events if event["event"] in ("epoch", "trace", "end")]
    return bool(kinds) and kinds[-1] == "end"


def _sum(row: Sequence[float | None]) -> float | None:
    return None if any(value is None for value in row) else math.fsum(value for value in row if value is not None)


def _metrics(table: Mapping[str, Column], row: int) -> dict[str, float | None]:
    return {name: values[row] for name, values in table.items() if name.startswith("metrics/")}


def _setting(setting: RunSetting) -> dict[str, Any]:
    return {
        "name": setting.name,
        "value": _text(setting.value),
        "default": _text(setting.default),
        "origin": setting.origin,
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _last(events: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Any] | None:
    found = [event for event in events if event["event"] == kind]
    return {name: value for name, value in found[-1].items() if name not in ("event", "time")} if found else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
