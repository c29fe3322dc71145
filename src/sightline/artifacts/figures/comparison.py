"""comparison.png: the curves of several recipes, each with the spread of its seeds, and where their runs ended."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sightline.artifacts.figures.style import INK, SOFT, new_figure, quiet, remark, save_figure, shorten

Numbers = npt.NDArray[np.float64]
ROOM = 40  # letters of names side by side below a panel
# Told apart also by people who do not see red and green as different, as far as the first three go.
COLOURS = ("#1f77b4", "#e8710a", "#444444", "#8e44ad", "#2a9d5c", "#c0392b")


def plot_comparison(
    curves: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
    judged: str,
    ends: Mapping[str, Sequence[float]],
    file: str | os.PathLike[str],
    *,
    title: str = "",
    ends_title: str = "at the end",
) -> Path:
    """Draw every panel of `curves`, and in a last one the number of each run that the verdict is about.

    Args:
        curves: panel → recipe → one sequence a run, a value an epoch (NaN where there is none).
        judged: the panel whose ends are judged.
        ends: recipe → one number a run.
        file: where to; its suffix says the format.
        title: above all; the verdict.
        ends_title: what the numbers of the last panel are.

    Raises:
        OutputError: the picture cannot be written.
    """
    panels = len(curves) + 1
    columns = min(panels, 3)
    rows = -(-panels // columns)
    figure, grid = new_figure(rows, columns, size=(4.2 * columns, 3.4 * rows + 0.4))
    figure.suptitle(title, fontsize=10, color=INK)
    colours = {recipe: COLOURS[i % len(COLOURS)] for i, recipe in enumerate(ends)}
    places = list(grid.flat)
    for axes, (name, recipes) in zip(places, curves.items(), strict=False):
        quiet(axes, name, xlabel="epoch")
        _draw_curves(axes, recipes, colours)
    quiet(places[len(curves)], f"{judged} {ends_title}")
    _draw_ends(places[len(curves)], ends, colours)
    for axes in places[panels:]:
        axes.set_axis_off()
    places[0].legend(frameon=False, fontsize=8, labelcolor=INK)
    return save_figure(figure, file)


def _draw_curves(axes: Any, recipes: Mapping[str, Sequence[Sequence[float]]], colours: Mapping[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    drawn = False
    for recipe, runs in recipes.items():
        values = _padded(runs)  # (runs, epochs)
        known = np.isfinite(values).any(axis=0)
        if not known.any():
            continue
        drawn = True
        epochs = np.flatnonzero(known) + 1
        shown = values[:, known]
        for run in shown if len(shown) > 1 else ():
            axes.plot(epochs, run, color=colours[recipe], linewidth=0.6, alpha=0.45)
        label = f"{shorten(recipe, 28)} ({len(shown)} run{'s' if len(shown) > 1 else ''})".replace("$", r"\$")
        mark = "o" if len(epochs) == 1 else None
        axes.plot(epochs, np.nanmean(shown, axis=0), color=colours[recipe], linewidth=1.8, marker=mark, label=label)
        if len(shown) > 1:
            low, high = np.nanmin(shown, axis=0), np.nanmax(shown, axis=0)
            axes.fill_between(epochs, low, high, color=colours[recipe], alpha=0.12, linewidth=0)
    if not drawn:
        remark(axes, "no values")


def _draw_ends(axes: Any, ends: Mapping[str, Sequence[float]], colours: Mapping[str, str]) -> None:
    """A dot a run; a line at the mean, and a bar of one standard deviation on both sides of it."""
    for place, (recipe, numbers) in enumerate(ends.items()):
        found = np.asarray([number for number in numbers if np.isfinite(number)], dtype=np.float64)
        if not len(found):
            continue
        # Beside each other, so that equal numbers are both seen.
        across = place + np.linspace(-0.12, 0.12, len(found)) if len(found) > 1 else np.array([place])
        axes.plot(across, found, "o", color=colours[recipe], markersize=4.5, alpha=0.8, markeredgewidth=0)
        axes.hlines(found.mean(), place - 0.3, place + 0.3, color=INK, linewidth=1.4)
        if len(found) > 1:
            axes.vlines(
                place + 0.22,
                found.mean() - found.std(ddof=1),
                found.mean() + found.std(ddof=1),
                color=SOFT,
                linewidth=1.4,
            )
    labels = [shorten(recipe, 16) for recipe in ends]
    axes.set_xticks(range(len(ends)), [label.replace("$", r"\$") for label in labels], color=INK)
    if sum(map(len, labels)) > ROOM:  # beside each other they would overlap
        axes.tick_params(axis="x", labelrotation=15, labelsize=7)
    axes.set_xlim(-0.6, len(ends) - 0.4)
    axes.set_xlabel("dots: runs · line: mean · bar: ± 1 standard deviation", fontsize=8, color=SOFT)


def _padded(runs: Sequence[Sequence[float]]) -> Numbers:
    """(runs, epochs) with NaN behind the end of a shorter run."""
    table = np.full((len(runs), max(map(len, runs), default=0)), np.nan)
    for row, run in zip(table, runs, strict=True):
        row[: len(run)] = run
    return table
