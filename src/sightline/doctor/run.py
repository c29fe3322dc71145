"""`sightline doctor run RUN_DIR`: the rules of the diagnosis on a run that is over, or still going on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sightline.artifacts.events import NAME, read_events
from sightline.artifacts.tables import ResultsTable
from sightline.callbacks.run_facts import recorded_epoch
from sightline.config.limits import Limits
from sightline.diagnosis.finding import Finding
from sightline.diagnosis.history import Epoch, History, epoch_from, setup_from
from sightline.diagnosis.rules import replay
from sightline.errors import MissingFileError, SettingValueError

MARKS = {"error": "✗", "warning": "!", "note": "·"}
# Events of the diagnosis itself, and those that say how a run was, not what happened to it.
OWN = frozenset({"setup", "epoch", "finding", "environment", "data", "trace", "end"})


@dataclass
class RunReport:
    """What a run folder tells.

    Attributes:
        folder: of the run.
        history: every epoch, as far as it was recorded.
        findings: what the rules say, in the order in which a run would have said it.
        happened: kind → how often, of the other events (rollbacks, memory, bad images, …).
        knows_steps: whether events.jsonl had gradients and updates; a table alone has losses and metrics only.
    """

    folder: Path
    history: History
    findings: list[Finding]
    happened: Counter[str]
    knows_steps: bool

    def lines(self) -> Iterator[str]:
        history = self.history
        best = max(history.epochs, key=lambda epoch: -1.0 if math.isnan(epoch.map) else epoch.map)
        score = "never validated" if math.isnan(best.map) else f"best mAP50-95 {best.map:.3f} at epoch {best.epoch}"
        yield f"{self.folder}: {history.number} of {history.setup.epochs or '?'} epochs, {score}"
        if not self.knows_steps:
            yield f"  (no {NAME}: judged by results.csv alone, without gradients and updates)"
        if self.happened:
            yield "  happened: " + ", ".join(f"{kind} × {count}" for kind, count in self.happened.items())
        for finding in self.findings:
            yield f"{MARKS[finding.severity]} {finding.line()}"
        if not self.findings:
            yield "Nothing wrong was found."


def examine(folder: str | Path) -> RunReport:
    """Judge a run folder, or one of its files.

    Raises:
        MissingFileError: there is no results.csv and no events.jsonl.
        SettingValueError: results.csv has no epochs or no numbers in it.
    """
    place = Path(folder).expanduser()
    if place.is_file():
        place = place.parent
    if place.name == "weights":
        place = place.parent
    csv, log = place / "results.csv", place / NAME
    if not csv.is_file() and not log.is_file():
        raise MissingFileError(
            f"{place} is no run folder: it has neither results.csv nor {NAME}. Give the folder that training printed, "
            "such as runs/detect/train."
        )
    settings = _settings(place / "args.yaml")
    history, happened, before, knows_steps = _events(log)
    if csv.is_file():
        _complete(history, csv)
    if not history.epochs:
        raise SettingValueError(f"{place}: no epoch of this run is recorded yet. Look again after the first.")
    history.setup.epochs = _number(settings.get("epochs"), int) or history.setup.epochs
    if not knows_steps:  # else it is there, also where it was given in steps
        history.setup.warmup_epochs = _number(settings.get("warmup_epochs"), float) or 0.0
    limits = settings.get("diagnosis_limits")
    try:
        findings = replay(history, Limits.named(limits if isinstance(limits, dict) else None))
    except KeyError as error:
        raise SettingValueError(f"{place / 'args.yaml'}: diagnosis_limits: {error.args[0]}") from None
    judged = {finding.rule for finding in findings}
    findings = [*(finding for rule, finding in before.items() if rule not in judged), *findings]
    return RunReport(place, history, findings, happened, knows_steps)


def _number(value: Any, kind: type[int] | type[float]) -> Any:
    """None for what is no number: args.yaml may be of another program."""
    return kind(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _settings(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):  # of another program, or lost: the rules do without
        return {}
    return values if isinstance(values, dict) else {}


def _events(file: Path) -> tuple[History, Counter[str], dict[str, Finding], bool]:
    """History, other events, what was said of settings before the first epoch, and whether epochs are recorded."""
    history, epochs, happened = History(), {}, Counter[str]()
    before: dict[str, Finding] = {}
    for event in read_events(file):
        kind = event["event"]
        if kind == "setup":
            history.setup = setup_from(event)
        elif kind == "epoch" and isinstance(event.get("epoch"), int):
            epochs[event["epoch"]] = epoch_from(event)  # of a resumed run the later line counts
        elif kind == "finding" and event.get("epoch") == 0:
            finding = _finding(event)
            before |= {} if finding is None else {finding.rule: finding}
        elif kind not in OWN:
            happened[str(kind)] += 1
    history.epochs = [epochs[number] for number in sorted(epochs)]
    return history, happened, before, bool(epochs)


def _finding(event: Mapping[str, Any]) -> Finding | None:
    values = [event.get(name) for name in ("rule", "severity", "evidence", "remedy")]
    if not all(isinstance(value, str) for value in values) or values[1] not in MARKS:
        return None
    return Finding(*values)  # type: ignore[arg-type]


def _complete(history: History, csv: Path) -> None:
    """Epochs that only the table has."""
    try:
        table = {name.strip(): values for name, values in ResultsTable(csv).read().items() if name}
    except (ValueError, TypeError) as error:
        raise SettingValueError(f"{csv} is no table of numbers ({error}).") from None
    known = {epoch.epoch for epoch in history.epochs}
    for row, number in enumerate(table.get("epoch", [])):
        if not math.isnan(number) and int(number) not in known:
            history.epochs.append(Epoch(int(number), **recorded_epoch(table, row)))
    history.epochs.sort(key=lambda epoch: epoch.epoch)
