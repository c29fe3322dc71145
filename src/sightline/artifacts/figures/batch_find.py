"""batch_find.png: what batches of growing size take, and what the noise of the gradient makes of them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

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

GIB = 2**30


def plot_batch_find(
    batches: Sequence[int],
    images_per_second: Sequence[float],
    memory: Sequence[float],
    *,
    budget: float,
    free: float,
    noise: tuple[float, float, float],
    now: tuple[int, int],
    recommended: tuple[int, int] | None,
    title: str,
    file: str | os.PathLike[str],
) -> Path:
    """Draw throughput, memory, and what of a step's images does work.

    Args:
        batches, images_per_second, memory: (N,) of every size that was tried; memory in bytes, infinite where it ran
            out.
        budget, free: bytes.
        noise: the noise scale in images, and between what it lies; NaN or infinite where it is not known.
        now, recommended: (batch, images behind a step).
        title: above all.
        file: where the picture goes.

    Raises:
        OutputError: the picture cannot be written.
    """
    figure, grid = new_figure(1, 3, size=(13.0, 4.6))
    figure.suptitle(title, fontsize=11, color=INK)
    speed, room, worth = grid[0]
    fine = [index for index, rate in enumerate(images_per_second) if math.isfinite(rate)]
    for axes, values, name, ylabel in (
        (speed, images_per_second, "Throughput", "images a second, forward to step"),
        (room, [value / GIB for value in memory], "Memory", "GiB at the peak"),
    ):
        quiet(axes, name, xlabel="batch, images at once", ylabel=ylabel)
        if not fine:
            remark(axes, "not even one image fits")
            continue
        axes.set_xscale("log", base=2)
        axes.plot([batches[i] for i in fine], [values[i] for i in fine], "o-", color=TRAIN, linewidth=1.8, markersize=4)
        axes.set_xticks(list(batches), [str(batch) for batch in batches])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        _mark(axes, now[0], None if recommended is None else recommended[0])
        for index in sorted(set(range(len(batches))) - set(fine)):
            axes.axvline(batches[index], color=VALIDATION, linewidth=1.2, linestyle=":", label="out of memory")
    if fine:
        highest = max(memory[i] for i in fine) / GIB
        for name, value, line in (("60% of the free memory", budget, "-."), ("free memory", free, ":")):
            if value / GIB < 4 * highest:  # else the curve would be a line at the bottom
                room.axhline(value / GIB, color=VALIDATION, linewidth=1.2, linestyle=line, label=name)
        _legend(speed)
        _legend(room)
    _plot_worth(worth, noise, now[1], None if recommended is None else recommended[1])
    return save_figure(figure, file)


def _plot_worth(axes: Any, noise: tuple[float, float, float], now: int, recommended: int | None) -> None:
    quiet(
        axes,
        "What the gradient noise leaves of the work",
        xlabel="images behind a step",
        ylabel="share of the fewest possible",
    )
    scale, low, high = noise
    if not math.isfinite(scale) or scale <= 0:
        remark(axes, "the noise scale is not known")
        return
    ends = [value for value in (scale, low, now, recommended) if value]
    images = np.geomspace(max(min(ends) / 8, 1), max(ends) * 8, 200)
    axes.set_xscale("log", base=2)
    for share, colour, name in (
        (lambda at: 1 / (1 + images / at), TRAIN, "fewest possible / needed images"),
        (lambda at: 1 / (1 + at / images), VALIDATION, "fewest possible / needed steps"),
    ):
        axes.plot(images, share(scale), color=colour, linewidth=1.8, label=name)
        upper = share(high) if math.isfinite(high) else share(images[-1] * 64)
        axes.fill_between(images, share(max(low, 1e-9)), upper, color=colour, alpha=0.15, linewidth=0)
    axes.axvline(scale, color=INK, linewidth=1.0, linestyle=":", label=f"noise scale: {scale:.0f} images")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    _mark(axes, now, recommended)
    axes.set_ylim(0, 1)
    _legend(axes)


def _mark(axes: Any, now: int, recommended: int | None) -> None:
    if now == recommended:
        axes.axvline(now, color=METRIC, linewidth=1.6, label=f"now and recommended: {now}")
        return
    axes.axvline(now, color=SOFT, linewidth=1.6, linestyle="--", label=f"now: {now}")
    if recommended is not None:
        axes.axvline(recommended, color=METRIC, linewidth=1.6, label=f"recommended: {recommended}")


def _legend(axes: Any) -> None:
    """Below, where it hides no line."""
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
