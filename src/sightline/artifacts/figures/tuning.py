"""Pictures of a search over settings: what each trial reached, and which settings made the difference."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.artifacts.figures.style import (
    INK,
    METRIC,
    SOFT,
    TRAIN,
    logarithmic,
    new_figure,
    quiet,
    remark,
    save_figure,
)

MOST_SETTINGS = 8  # whose values are drawn against the fitness
FAILED_COLOUR = "#c0392b"


def plot_history(
    trials: Sequence[tuple[int, str, float, Mapping[int, float]]],
    file: str | os.PathLike[str],
    *,
    start: float | None = None,
) -> Path:
    """Left the fitness of each trial and the best so far, right the curve of each over its epochs.

    Args:
        trials: number, state (complete, pruned, failed, running), fitness (NaN for none) and epoch → fitness.
        file: where to.
        start: fitness with the settings as they were; None without such a trial.

    Raises:
        OutputError: the picture cannot be written.
    """
    figure, grid = new_figure(1, 2, size=(11, 4))
    left, right = grid.flat
    quiet(left, "fitness of each trial", xlabel="trial", ylabel="best epoch")
    quiet(right, "during the trials", xlabel="epoch")
    known = [trial for trial in trials if math.isfinite(trial[2])]
    if not known:
        remark(left, "no trial has a fitness")
        remark(right, "no trial has a fitness")
        return save_figure(figure, file)
    for state, filled, name in (("complete", TRAIN, "complete"), ("pruned", "none", "ended early")):
        points = [(number, fitness) for number, what, fitness, _ in known if what == state]
        if points:
            left.scatter(*zip(*points, strict=True), s=28, facecolors=filled, edgecolors=TRAIN, label=name, zorder=3)
    failed = [number for number, state, _, _ in trials if state == "failed"]
    if failed:
        low = min(fitness for _, _, fitness, _ in known)
        left.scatter(failed, [low] * len(failed), s=28, marker="x", color=FAILED_COLOUR, label="failed", zorder=3)
    best, steps = -math.inf, []
    for number, state, fitness, _ in known:
        best = max(best, fitness) if state == "complete" else best
        steps.append((number, best))
    steps = [(number, value) for number, value in steps if math.isfinite(value)]
    if steps:
        left.step(*zip(*steps, strict=True), where="post", color=METRIC, linewidth=1.4, label="best so far")
    if start is not None and math.isfinite(start):
        left.axhline(start, color=SOFT, linewidth=1, linestyle="--", label="settings as they were")
    below = {"bbox_to_anchor": (0.5, -0.14), "loc": "upper center", "ncols": 3}  # inside it would hide trials
    left.legend(frameon=False, fontsize=8, labelcolor=INK, **below)
    left.xaxis.get_major_locator().set_params(integer=True)
    winner = max((trial for trial in known if trial[1] == "complete"), key=lambda trial: trial[2], default=None)
    for trial in known:
        _, state, _, curve = trial
        epochs, values = [epoch + 1 for epoch in curve], list(curve.values())
        style = {"color": SOFT, "alpha": 0.55, "linewidth": 0.9, "marker": "o", "markersize": 2}
        if state == "pruned":
            right.plot(epochs[-1:], values[-1:], marker="o", markersize=6, fillstyle="none", color=SOFT)
        if trial is winner:
            style = {"color": METRIC, "linewidth": 2.0, "zorder": 4, "label": f"best, trial {trial[0]}"}
        right.plot(epochs, values, **style)
    if winner is not None:
        right.legend(frameon=False, fontsize=8, labelcolor=INK)
    right.xaxis.get_major_locator().set_params(integer=True)
    return save_figure(figure, file)


def plot_importance(
    importances: Mapping[str, float],
    values: Mapping[str, Sequence[Any]],
    fitness: Sequence[float],
    file: str | os.PathLike[str],
    *,
    whole: Sequence[bool],
    log: Sequence[str] = (),
) -> Path:
    """How much of the differences each setting explains, and the fitness against the values of the first few.

    Args:
        importances: setting → share; empty where there are too few trials to say.
        values: setting → one value a trial.
        fitness: one a trial.
        file: where to.
        whole: whether each trial ran to its end.
        log: settings with a logarithmic axis.

    Raises:
        OutputError: the picture cannot be written.
    """
    names = sorted(values, key=lambda name: -importances.get(name, 0.0))
    shown = names[:MOST_SETTINGS]
    columns = 3
    rows = 1 + -(-max(len(shown) - 2, 0) // columns)
    figure, grid = new_figure(rows, columns, size=(4.0 * columns, 3.2 * rows))
    bars, *places = grid.flat
    quiet(bars, "share of the differences explained" if importances else "importance")
    if importances:
        ordered = sorted(importances.items(), key=lambda item: item[1])
        bars.barh([name for name, _ in ordered], [share for _, share in ordered], color=TRAIN, height=0.6)
        bars.set_xlim(left=0)
    else:
        remark(bars, "too few complete trials\nto tell what matters")
    for axes, name in zip(places, shown, strict=False):
        quiet(axes, name)
        texts = [not isinstance(value, (int, float)) or isinstance(value, bool) for value in values[name]]
        along = [str(value) for value in values[name]] if any(texts) else list(values[name])
        for state, filled in ((True, TRAIN), (False, "none")):
            points = [
                (x, y) for x, y, each in zip(along, fitness, whole, strict=True) if each is state and math.isfinite(y)
            ]
            if points:
                axes.scatter(*zip(*points, strict=True), s=22, facecolors=filled, edgecolors=TRAIN)
        if any(texts):
            axes.margins(x=0.3)
        elif name in log:
            logarithmic(axes, [value for value in along if value > 0])
        axes.set_ylabel("fitness", fontsize=8, color=SOFT)
    for axes in places[len(shown) :]:
        axes.set_axis_off()
    return save_figure(figure, file)
