"""results.png: how losses and metrics went, epoch by epoch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sightline.artifacts.figures.style import (
    INK,
    METRIC,
    SOFT,
    TRAIN,
    VALIDATION,
    new_figure,
    quiet,
    remark,
    save_figure,
)
from sightline.artifacts.tables import ResultsTable

Numbers = npt.NDArray[np.float64]


def plot_results(csv_path: str | os.PathLike[str], file: str | os.PathLike[str] | None = None) -> Path:
    """Draw every loss and metric of results.csv: the numbers, and dotted a Gaussian average over epochs (σ 3).

    The upper row holds the training losses, the lower one those of validation, in the same order; metrics follow on the
    right, with the best epoch of each.

    Args:
        csv_path: the table of the run; it may have no rows yet.
        file: None writes results.png beside it.

    Returns:
        Where the picture is.

    Raises:
        OutputError: the picture cannot be written.
    """
    source = Path(csv_path)
    table = {name.strip(): np.asarray(values, dtype=np.float64) for name, values in ResultsTable(source).read().items()}
    upper, lower = _rows(list(table))
    columns = max(len(upper), len(lower), 1)
    figure, grid = new_figure(2, columns, size=(max(2.7 * columns, 5.0), 5.2))
    figure.suptitle(f"Training results · {source.resolve().parent.name}", fontsize=11, color=INK)
    epochs = table.get("epoch", np.arange(1, max(map(len, table.values()), default=0) + 1, dtype=np.float64))
    for row, names in enumerate((upper, lower)):
        for column in range(columns):
            axes = grid[row, column]
            if column < len(names) and names[column]:
                _draw_column(axes, names[column], epochs, table[names[column]])
                axes.set_xlabel("epoch" if row == 1 else "", fontsize=8, color=SOFT)
            else:
                axes.set_axis_off()
    if not table:
        remark(grid[0, 0], "no epoch finished yet")
    return save_figure(figure, file or source.with_name("results.png"))


def smooth(positions: Numbers, values: Numbers, *, sigma: float = 3.0) -> Numbers:
    """Gaussian average of values at uneven positions; near the ends over what is there."""
    weights = np.exp(-0.5 * ((positions[:, None] - positions[None, :]) / sigma) ** 2)
    averaged: Numbers = weights @ values / weights.sum(axis=1)
    return averaged


def _rows(names: list[str]) -> tuple[list[str], list[str]]:
    """Names of the panels, upper and lower row; a training loss stands above the validation loss of the same name."""
    train = [name for name in names if name.startswith("train/")]
    validation = [name for name in names if name.startswith("val/")]
    metrics = [name for name in names if name.startswith("metrics/")]
    losses = list(dict.fromkeys(name.split("/", 1)[1] for name in train + validation))
    half = (len(metrics) + 1) // 2
    upper = [f"train/{loss}" if f"train/{loss}" in names else "" for loss in losses] + metrics[:half]
    lower = [f"val/{loss}" if f"val/{loss}" in names else "" for loss in losses] + metrics[half:]
    return upper, lower


def _draw_column(axes: Any, name: str, epochs: Numbers, values: Numbers) -> None:
    from matplotlib.ticker import MaxNLocator

    colour = TRAIN if name.startswith("train/") else VALIDATION if name.startswith("val/") else METRIC
    quiet(axes, name)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))
    known = np.isfinite(values) & np.isfinite(epochs)  # epochs without validation, or a loss that was not a number
    x, y = epochs[known], values[known]
    if not len(x):
        remark(axes, "no values")
        return
    axes.plot(x, y, color=colour, linewidth=1.4, marker="o" if len(x) <= 30 else None, markersize=2.5)
    if len(x) > 2:
        axes.plot(x, smooth(x, y), color=INK, linewidth=1.2, linestyle=":")
    if name.startswith("metrics/"):
        best = int(y.argmax())
        axes.plot(x[best], y[best], marker="o", markersize=5, markerfacecolor="none", markeredgecolor=INK)
        text = f"best {y[best]:.3f} · epoch {x[best]:.0f}"
        axes.text(0.97, 0.04, text, transform=axes.transAxes, ha="right", fontsize=8, color=SOFT)
        axes.set_ylim(bottom=0)
    if len(x) == 1:  # one point needs some room around it
        axes.set_xlim(x[0] - 1, x[0] + 1)
