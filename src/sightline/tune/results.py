"""What a study leaves beside its runs: best.yaml, defaults.yaml, trials.csv, pictures, and words about the best."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sightline.artifacts.figures.tuning import plot_history, plot_importance
from sightline.config.settings import Settings
from sightline.files import atomic_write
from sightline.log import LOGGER
from sightline.tune.in_force import TUNE, trial_settings
from sightline.tune.ledger import Ledger, Row
from sightline.tune.plan import Plan
from sightline.tune.trial import COMPLETE, FAILED, PRUNED

BEST, DEFAULTS_FILE, TABLE = "best.yaml", "defaults.yaml", "trials.csv"
# Of the study or of one run, not of the recipe.
NOT_THE_RECIPE = (
    *("save_dir", "name", "project", "exist_ok", "resume", "mode", "cfg"),
    *("plots", "report", "verbose", "loggers"),
)
SHOWN = 10  # trials of the table in the console


@dataclass
class TuneResult:
    """What `tune` returns.

    Attributes:
        folder: of the study.
        rows: its trials, in the order in which they were made.
        start: what the searched settings were without the search.
    """

    folder: Path
    rows: list[Row] = field(default_factory=list)
    start: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> Row | None:
        """The best of the trials that ran to their end; of those that were ended early, where there are no others."""
        ended = [row for row in self.rows if row.has_ended_well]
        whole = [row for row in ended if row.state == COMPLETE] or ended
        return max(whole, key=lambda row: (row.fitness, -row.number), default=None)

    @property
    def first(self) -> Row | None:
        """The trial with the settings as they were, if there is one."""
        same = (row for row in self.rows if row.values and dict(row.values) == dict(self.start))
        return next(same, None)

    @property
    def best_file(self) -> Path:
        return self.folder / BEST

    @property
    def best_weights(self) -> Path | None:
        return None if self.best is None else self.folder / self.best.folder / "weights" / "best.pt"

    def lines(self) -> Iterator[str]:
        """The table for the console, and what to do with it."""
        counts = {state: sum(row.state == state for row in self.rows) for state in (COMPLETE, PRUNED, FAILED)}
        yield (
            f"{len(self.rows)} trials: {counts[COMPLETE]} complete, {counts[PRUNED]} ended early, "
            f"{counts[FAILED]} failed"
        )
        best = self.best
        if best is None:
            yield f"No trial has a fitness. {self.folder / TABLE} says why."
            return
        ended = sorted((row for row in self.rows if row.has_ended_well), key=lambda row: -row.fitness)
        names = list(best.values)
        cells = [["trial", "fitness", "epochs", *names]]
        for row in ended[:SHOWN]:
            mark = "" if row.state == COMPLETE else " (ended early)"
            cells.append([str(row.number), f"{row.fitness:.4f}{mark}", str(row.epochs), *_texts(row.values, names)])
        widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
        for line in cells:
            yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        if len(ended) > SHOWN:
            yield f"… and {len(ended) - SHOWN} more in {self.folder / TABLE}"
        yield from self._verdict(best, len(ended))

    def _verdict(self, best: Row, ended: int) -> Iterator[str]:
        first, file = self.first, self.best_file
        if best.fitness == 0:
            yield "No trial has found a single object, so nothing can be said. Give them more epochs."
            return
        if first is not None and first.number == best.number:
            yield f"Nothing better has been found than the settings as they were (trial {best.number})."
            return
        than = f", against {first.fitness:.4f} with the settings as they were" if first and first.has_ended_well else ""
        yield f"best: trial {best.number} with {best.fitness:.4f}{than}"
        yield f"settings in {file}, weights in {self.best_weights}"
        yield (
            f"The best of {ended} is partly luck: with another seed the same settings are likely to do worse. Whether "
            "they are better than those before, only more runs can say:"
        )
        yield f"  sightline compare repeats=3 {self.folder / DEFAULTS_FILE} {file}"
        yield "Train with it, as long as you like:"
        yield f"  sightline train cfg={file} epochs=100"


def write(plan: Plan, ledger: Ledger, *, pictures: bool = False) -> TuneResult:
    """Write the files of the study as it is now. A picture that cannot be drawn ends nothing."""
    result = TuneResult(plan.folder, ledger.rows(), plan.start)
    _write_text(plan.folder / TABLE, _table(plan, result.rows))
    _write_text(plan.folder / DEFAULTS_FILE, _head("The settings as they were", plan) + _recipe(plan.settings, {}))
    if result.best is not None:
        head = _head(f"Trial {result.best.number} of the study, fitness {result.best.fitness:.5g}", plan)
        _write_text(plan.folder / BEST, head + _recipe(plan.settings, result.best.values))
    if pictures:
        try:
            plot_history(
                [(row.number, row.state, row.fitness, row.curve) for row in result.rows],
                plan.folder / "history.png",
                start=None if result.first is None else result.first.fitness,
            )
            ended = [row for row in result.rows if row.has_ended_well]
            logarithmic = [name for name, dimension in plan.space.items() if getattr(dimension, "log", False)]
            plot_importance(
                ledger.importances(),
                {name: [row.values.get(name) for row in ended] for name in plan.space},
                [row.fitness for row in ended],
                plan.folder / "importance.png",
                whole=[row.state == COMPLETE for row in ended],
                log=logarithmic,
            )
        except Exception as error:
            LOGGER.warning(f"a picture of the study failed ({error}); the tables are there")
    return result


def _head(title: str, plan: Plan) -> str:
    auto = ""
    if plan.settings.optimizer == "auto" and "optimizer" not in plan.space:
        auto = "# optimizer=auto filled in the rest; in a longer run it does so anew, and leaves this as it is.\n"
    return f"# {title}. Use it: sightline train cfg={plan.folder / BEST if 'Trial' in title else '…'}\n{auto}"


def _recipe(settings: Settings, values: Mapping[str, Any]) -> str:
    """What somebody set, and what was found."""
    trial = trial_settings(settings, values)
    lines = []
    for name, value in trial.to_dict().items():
        if name in NOT_THE_RECIPE or not trial.is_user_set(name):
            continue
        first, *rest = yaml.safe_dump({name: value}, allow_unicode=True, sort_keys=False, width=10_000).splitlines()
        lines += [f"{first}  # found" if trial.origin(name) == TUNE else first, *rest]
    return "\n".join(lines) + "\n"


def _table(plan: Plan, rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "fitness", "epochs", "seconds", *plan.space, "folder", "reason"])
    for row in rows:
        facts = [row.number, row.state, _number(row.fitness), row.epochs, _number(round(row.seconds, 1))]
        writer.writerow([*facts, *(row.values.get(name, "") for name in plan.space), row.folder, row.reason])
    return text.getvalue()


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else ""


def _texts(values: Mapping[str, Any], names: list[str]) -> list[str]:
    found = [values.get(name) for name in names]
    return [f"{value:.3g}" if isinstance(value, float) else str(value) for value in found]


def _write_text(file: Path, text: str) -> None:
    with atomic_write(file, "w", encoding="utf-8") as output:
        output.write(text)
