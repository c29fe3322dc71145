"""The numbers of a run by epoch: results.csv, and what events.jsonl has beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.artifacts.tables import ResultsTable
from sightline.errors import SettingValueError

Column = list[float | None]  # one value an epoch; None where there is none, because JSON has no NaN

# Of an "epoch" event, what no other table has. Traces of the page carry these names.
TRACED = ("grad_norm", "grad_norm_max", "head_gradient", "body_gradient", "update", "ema_lag", "scale")
FACTS = frozenset({"setup", "epoch", "trace", "environment", "data", "end"})  # events that tell no incident
MARKS_AT_MOST = 200  # a file that is damaged in each of 600 epochs must not bury the rest


def read_table(csv: Path) -> dict[str, Column]:
    """The columns of results.csv; empty where there is none.

    Raises:
        SettingValueError: it is no table of numbers.
    """
    try:
        table = {name.strip(): values for name, values in ResultsTable(csv).read().items() if name}
    except (ValueError, TypeError, UnicodeDecodeError) as error:
        raise SettingValueError(
            f"{csv} is no table of numbers ({error}). Give the folder of a run, as training printed it."
        ) from None
    count = len(table.get("epoch", []))
    return {name: [_number(value) for value in values] for name, values in table.items() if len(values) == count}


def traces_of(events: Sequence[Mapping[str, Any]], epochs: Sequence[float | None]) -> dict[str, Column]:
    """Gradient norms, updates, momentum … by name, a value for each of `epochs`; of a resumed run the later counts."""
    place = {int(epoch): i for i, epoch in enumerate(epochs) if epoch is not None}
    traces: dict[str, Column] = {}
    for event in events:
        i = place.get(event.get("epoch"))  # type: ignore[arg-type]
        if i is None or event["event"] not in ("epoch", "trace"):
            continue
        found = {name: event.get(name) for name in TRACED} if event["event"] == "epoch" else _trace(event)
        for name, value in found.items():
            if (number := _number(value)) is not None:
                traces.setdefault(name, [None] * len(epochs))[i] = number
    return traces


def marks_of(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What happened, to be marked on the curves: findings of the diagnosis, and what the run survived."""
    marks: list[dict[str, Any]] = []
    for event in events:
        kind = event["event"]
        epoch = event.get("epoch")
        epoch = epoch if isinstance(epoch, int) else 0
        if kind == "finding":
            text = f"{event.get('evidence') or ''}. {event.get('remedy') or ''}".strip()
            severity = event.get("severity") if event.get("severity") in ("note", "warning", "error") else "note"
            marks.append(_mark(epoch, str(severity), str(event.get("rule") or "finding").replace("_", " "), text))
        elif kind not in FACTS:
            text = str(event.get("reason") or event.get("text") or "")
            marks.append(_mark(epoch, "warning", str(kind).replace("_", " "), text))
    return _without_repeats(marks)[:MARKS_AT_MOST]


def _without_repeats(marks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is said in every epoch is marked where it is first said, with how often it came again."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for mark in marks:
        known = first.setdefault((mark["title"], mark["severity"]), mark)
        if known is not mark:
            known["again"] += 1
    return sorted(first.values(), key=lambda mark: mark["epoch"])


def _mark(epoch: int, severity: str, title: str, text: str) -> dict[str, Any]:
    return {"epoch": epoch, "severity": severity, "title": title, "text": text, "again": 0}


def _trace(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: event.get(name) for name in ("momentum", "memory_gb")}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
