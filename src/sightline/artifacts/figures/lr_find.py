"""lr_find.png: the loss over the learning rate in a range test."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sightline.artifacts.figures.style import (
    GRID,
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

Numbers = npt.NDArray[np.float64]
ROOM = 0.15  # of the height of the calm part, around it: an explosion would flatten the rest
STYLES = ((INK, "-", 2.0), (SOFT, "--", 1.4), (METRIC, "--", 1.4), (VALIDATION, "--", 1.4))  # of the marks, in turn


def plot_lr_find(
    rates: Numbers,
    losses: Numbers,
    probed: Numbers,
    smoothed_rates: Numbers,
    smoothed: Numbers,
    noise: Numbers,
    *,
    level: float,
    marks: Mapping[str, float | None],
    title: str,
    file: str | os.PathLike[str],
) -> Path:
    """Draw losses as points, the smoothed curve with its noise (± one standard deviation), and rates as lines.

    Args:
        rates, losses: (N,) of every step and the batches behind it; losses may be infinite or NaN.
        probed: (N,) of the same few batches after every step; of them is the smoothed curve.
        smoothed_rates, smoothed, noise: (M,) the smoothed curve, and the standard deviation of `probed` around it;
            empty where there is none.
        level: the loss of the weights that the test began with.
        marks: what to call a rate → the rate; None is left out. The first is drawn strongest.
        title: of the picture.
        file: where the picture goes.

    Returns:
        Where the picture is.

    Raises:
        OutputError: the picture cannot be written.
    """
    figure, grid = new_figure(1, 1, size=(8.0, 4.8))
    axes = grid[0, 0]
    quiet(axes, title, xlabel="learning rate lr0, logarithmic", ylabel="training loss per image")
    axes.set_xscale("log")
    if np.isfinite(probed).any():
        axes.plot(rates, losses, ".", color=GRID, markersize=4, label="batches of a step, before it")
        axes.plot(rates, probed, ".", color=TRAIN, markersize=4, label="the same few batches, after it")
        axes.axhline(level, color=SOFT, linewidth=0.8, linestyle=":", label="weights of the beginning")
    else:
        remark(axes, "no loss was a number")
    if len(smoothed):
        edges = smoothed - noise, smoothed + noise
        axes.fill_between(smoothed_rates, *edges, color=TRAIN, alpha=0.18, linewidth=0, label="±1 σ")
        axes.plot(smoothed_rates, smoothed, color=TRAIN, linewidth=1.8, label="smoothed")
        seen = losses[: len(smoothed)][np.isfinite(losses[: len(smoothed)])]
        usual = np.quantile(seen, (0.05, 0.95)) if len(seen) else (level, level)
        low, high = min(edges[0].min(), usual[0]), max(edges[1].max(), usual[1], level)
        axes.set_ylim(low - ROOM * (high - low), high + ROOM * (high - low))
    for place, (name, rate) in enumerate(marks.items()):
        if rate is not None:
            colour, line, width = STYLES[min(place, len(STYLES) - 1)]
            axes.axvline(rate, color=colour, linestyle=line, linewidth=width, label=f"{name}: {rate:.2g}")
    axes.legend(loc="lower left", fontsize=8, frameon=False)
    return save_figure(figure, file)
