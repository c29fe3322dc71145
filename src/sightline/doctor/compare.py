"""`sightline compare RUN…`: recipes side by side, each with the spread of its seeds, and a plain verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sightline.artifacts.figures.comparison import plot_comparison
from sightline.artifacts.run_record import RunRecord, read_run
from sightline.diagnosis.verdict import ALPHA, Verdict, judge, spread
from sightline.doctor.recipes import Recipe, find_runs, group, higher_is_better, key_of, recipe_of
from sightline.errors import SettingValueError, UsageError
from sightline.files import atomic_write

METRIC = "metrics/mAP50-95(B)"
# Other values of these, and the same number means something else.
MEASURED_WITH = ("task", "data", "split", "classes", "single_cls", "fitness")
UNSET = "–"


@dataclass
class Comparison:
    """What `compare` found.

    Attributes:
        recipes: the first is what the others are compared with.
        metric: the column of results.csv that is judged.
        at: "end" or "best": which epoch of each run counts.
        verdicts: one for each recipe after the first.
        warnings: why the numbers may not mean what they seem to.
    """

    recipes: list[Recipe]
    metric: str
    at: str
    verdicts: list[Verdict]
    warnings: list[str]

    def differing(self) -> list[str]:
        """Settings in which the recipes differ."""
        known = [recipe_of(recipe.settings) for recipe in self.recipes if recipe.settings]
        names = dict.fromkeys(name for settings in known for name in settings)
        return [name for name in names if len({key_of(settings.get(name, UNSET)) for settings in known}) > 1]

    def columns(self) -> list[str]:
        """Metrics that all recipes have, the judged one first."""
        first = self.recipes[0].runs[0].table
        shared = [name for name in first if name.startswith(("metrics/", "fitness/")) and self._have(name)]
        return list(dict.fromkeys([self.metric, *shared]))

    def _have(self, column: str) -> bool:
        return all(column in run.table for recipe in self.recipes for run in recipe.runs)

    def lines(self) -> Iterator[str]:
        for recipe in self.recipes:
            seeds = ", ".join(str(run.settings.get("seed", "?")) for run in recipe.runs)
            epochs = sorted({run.epochs for run in recipe.runs})
            shown = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
            count = "1 run" if len(recipe.runs) == 1 else f"{len(recipe.runs)} runs"
            yield f"{recipe.name}: {count} (seed {seeds}), {shown} epochs: {_folders(recipe.runs)}"
        yield ""
        yield from self._settings_lines()
        yield ""
        yield from self._metric_lines()
        yield ""
        for warning in self.warnings:
            yield f"! {warning}"
        yield from self.verdict_lines()

    def _settings_lines(self) -> Iterator[str]:
        names = self.differing()
        if not names:
            yield "settings: no difference is recorded"
            return
        rows = [["setting", *(recipe.name for recipe in self.recipes)]]
        for name in names:
            rows.append([name, *(_shown(recipe, name) for recipe in self.recipes)])
        yield from _aligned(rows)

    def _metric_lines(self) -> Iterator[str]:
        rows = [["metric", *(recipe.name for recipe in self.recipes)]]
        for column in self.columns():
            for at in ("end", "best"):
                values = (_mean_and_spread(recipe.values(column, at=at)) for recipe in self.recipes)
                rows.append([f"{column} {'at the end' if at == 'end' else 'best epoch'}", *values])
        yield from _aligned(rows)
        yield "(mean ± standard deviation over seeds)"

    def verdict_lines(self) -> Iterator[str]:
        first, *others = self.recipes
        when = "at the end" if self.at == "end" else "at the best epoch"
        for recipe, verdict in zip(others, self.verdicts, strict=True):
            yield f"{self.metric} {when}: {verdict.line(first.name, recipe.name)}"
        known = [verdict for verdict in self.verdicts if not math.isnan(verdict.p)]
        if known:
            yield f"(± holds in {100 * (1 - known[0].alpha):.3g}% of cases; Welch's test over the runs)"
        if any(len(recipe.runs) < 3 for recipe in self.recipes):
            yield "More seeds tell more: `sightline compare repeats=5 a.yaml b.yaml` runs them."

    def as_dict(self) -> dict[str, Any]:
        """Plain values for comparison.json."""
        return {
            "metric": self.metric,
            "at": self.at,
            "recipes": [
                {
                    "name": recipe.name,
                    "runs": [str(run.folder) for run in recipe.runs],
                    "seeds": [run.settings.get("seed") for run in recipe.runs],
                    "end": {column: _finite(recipe.values(column, at="end")) for column in self.columns()},
                    "best": {column: _finite(recipe.values(column, at="best")) for column in self.columns()},
                }
                for recipe in self.recipes
            ],
            "settings": {
                name: {recipe.name: recipe.settings.get(name) for recipe in self.recipes} for name in self.differing()
            },
            "verdicts": [
                {
                    "outcome": each.outcome,
                    "difference": _number(each.difference),
                    "margin": _number(each.margin),
                    "p": _number(each.p),
                    "visible": _number(each.visible),
                    "alpha": each.alpha,
                    "words": each.line(self.recipes[0].name, recipe.name),
                }
                for recipe, each in zip(self.recipes[1:], self.verdicts, strict=True)
            ],
            "warnings": self.warnings,
        }  # fmt: skip

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=1, ensure_ascii=False, default=str) + "\n"


def compare(places: Sequence[str | Path], *, metric: str | None = None, at: str = "end") -> Comparison:
    """Read runs, group them into recipes by their settings, and judge each recipe against the first.

    Args:
        places: run folders, files of them, or patterns such as "runs/a-*".
        metric: a column of results.csv; None is mAP50-95 of boxes, else the first metric there is.
        at: "end", or "best". The best epoch is a maximum over noise, which is larger the more epochs there are, so
            it is the end that is judged unless somebody asks for the other.

    Raises:
        UsageError: there are fewer than two runs, or one recipe only.
        MissingFileError, SettingValueError: one of them is no run, or has no such metric.
    """
    check_epoch(at)
    runs = [read_run(place) for place in find_runs(places)]
    if len(runs) < 2:
        raise UsageError(
            f"compare needs at least two runs, and {len(runs)} {'is' if len(runs) == 1 else 'are'} given. Example: "
            "sightline compare runs/detect/train runs/detect/train-2"
        )
    return compare_recipes(group(runs), metric=metric, at=at)


def check_epoch(at: str) -> str:
    """`at`, if it is one that there is."""
    if at not in ("end", "best"):
        raise SettingValueError(f"at={at} is not allowed. It must be end or best.")
    return at


def compare_recipes(recipes: list[Recipe], *, metric: str | None = None, at: str = "end") -> Comparison:
    """The same, from recipes that are known."""
    if len(recipes) < 2:
        only = recipes[0]
        values = _mean_and_spread(only.values(_metric(recipes, metric), at=at))
        raise UsageError(
            f"All {len(only.runs) + len(only.repeated)} runs have the same settings but for the seed: one recipe, "
            f"{_metric(recipes, metric)} {values}. Give runs of another recipe, too."
        )
    column = _metric(recipes, metric)
    warnings = [*_warnings(recipes), *_about_data(recipes)]
    # With several comparisons one of them would be called different by luck more often than ALPHA.
    alpha = ALPHA / (len(recipes) - 1)
    numbers = []
    for recipe in recipes:
        values = recipe.values(column, at=at)
        found = [value for value in values if math.isfinite(value)]
        if len(found) < len(values):
            warnings.append(
                f"{recipe.name}: {len(values) - len(found)} of {len(values)} runs never reached a finite {column}; the "
                "mean is over the others, so it flatters this recipe"
            )
        numbers.append(found)
    verdicts = [judge(numbers[0], each, higher_is_better=higher_is_better(column), alpha=alpha) for each in numbers[1:]]
    return Comparison(recipes, column, at, verdicts, warnings)


def _metric(recipes: list[Recipe], wanted: str | None) -> str:
    runs = [run for recipe in recipes for run in recipe.runs]
    shared = [name for name in runs[0].table if all(name in run.table for run in runs)]
    metrics = [name for name in shared if name.startswith("metrics/")]
    if wanted is None:
        if METRIC in metrics or metrics:
            return METRIC if METRIC in metrics else metrics[-1]
        raise SettingValueError("These runs have no metric in common in results.csv. Name a column: metric=…")
    near = [name for name in shared if name == wanted] or [
        name for name in shared if name.split("/")[-1].split("(")[0] == wanted
    ]
    if not near:
        raise SettingValueError(f"metric={wanted} is not in results.csv of all runs. There: {', '.join(shared)}.")
    return near[0]


def _warnings(recipes: list[Recipe]) -> Iterator[str]:
    for recipe in recipes:
        for run in recipe.repeated:
            yield (
                f"{run.folder} has the seed of another run of {recipe.name} ({run.settings.get('seed')}): a repetition "
                "of it is no further evidence, so it is left out"
            )
        for run in recipe.runs:
            planned = run.settings.get("epochs")
            if isinstance(planned, int) and run.epochs < planned:
                yield (
                    f"{run.folder} has {run.epochs} of {planned} epochs: it stopped early, was interrupted or is still "
                    "going on"
                )
        if not recipe.settings:
            yield f"{recipe.name} has no args.yaml: its settings are not known"


def _about_data(recipes: list[Recipe]) -> Iterator[str]:
    for name in MEASURED_WITH:
        values = [recipe.settings[name] for recipe in recipes if name in recipe.settings]
        if len({key_of(value) for value in values}) > 1:
            shown = ", ".join(f"{each.name}: {each.settings[name]}" for each in recipes if name in each.settings)
            yield f"the recipes were measured with another {name} ({shown}): their numbers do not mean the same"


def _shown(recipe: Recipe, name: str) -> str:
    if name not in recipe.settings:
        return UNSET
    value = yaml.safe_dump(recipe.settings[name], default_flow_style=True, width=10_000, allow_unicode=True)
    text = value.removesuffix("\n").removesuffix("\n...").strip()
    origin = recipe.runs[0].origins.get(name, "default")
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({origin})"


def _mean_and_spread(values: Sequence[float]) -> str:
    found = [value for value in values if math.isfinite(value)]
    if not found:
        return UNSET
    mean = sum(found) / len(found)
    return f"{mean:.4f}" if len(found) == 1 else f"{mean:.4f} ± {spread(found):.4f}"


def _folders(runs: Sequence[RunRecord]) -> str:
    first = str(runs[0].folder)
    return first if len(runs) == 1 else f"{first} … {runs[-1].folder.name}"


def _aligned(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _finite(values: Sequence[float]) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def write(comparison: Comparison, folder: Path) -> tuple[Path, Path]:
    """Write comparison.png and comparison.json into a folder, and return where they are.

    Raises:
        OutputError: they cannot be written.
    """
    panels = [*comparison.columns()[:3], *_losses(comparison)]
    curves = {
        panel: {each.name: [_curve(run, panel) for run in each.runs] for each in comparison.recipes} for panel in panels
    }
    ends = {each.name: each.values(comparison.metric, at=comparison.at) for each in comparison.recipes}
    title = "\n".join(
        verdict.line(comparison.recipes[0].name, recipe.name)
        for recipe, verdict in zip(comparison.recipes[1:], comparison.verdicts, strict=True)
    )
    picture = plot_comparison(
        curves, comparison.metric, ends, folder / "comparison.png", title=title,
        ends_title="at the end" if comparison.at == "end" else "at the best epoch",
    )  # fmt: skip
    numbers = folder / "comparison.json"
    with atomic_write(numbers, "w", encoding="utf-8") as file:
        file.write(comparison.to_json())
    return picture, numbers


def _losses(comparison: Comparison) -> list[str]:
    """Panels of summed losses, where all runs have some."""
    runs = [run for recipe in comparison.recipes for run in recipe.runs]
    return [f"{part} loss (sum)" for part in ("train", "val") if all(_parts(run, part) for run in runs)]


def _parts(run: RunRecord, part: str) -> list[list[float]]:
    return [values for name, values in run.table.items() if name.startswith(f"{part}/") and "loss" in name]


def _curve(run: RunRecord, panel: str) -> list[float]:
    if panel in run.table:
        return run.table[panel]
    return [sum(values) for values in zip(*_parts(run, panel.split()[0]), strict=True)]
