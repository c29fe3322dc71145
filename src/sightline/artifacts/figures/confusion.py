"""The confusion matrix: which classes are taken for which, what is missed and what is invented."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sightline.artifacts.figures.style import INK, SOFT, families, name_of, new_figure, quiet, save_figure

_NUMBERED_CELLS = 30  # classes; with more, a number no longer fits into its cell
_NAMED_ROWS = 130  # with more, names run into each other


def plot_confusion_matrix(
    matrix: npt.ArrayLike,
    file: str | os.PathLike[str] = "confusion_matrix.png",
    names: Mapping[int, str] | Sequence[str] = (),
    normalize: bool = False,
) -> Path:
    """Draw the matrix with its numbers, or with colours alone when there are many classes.

    Args:
        matrix: (C + 1, C + 1) counts; rows are predicted, columns true, the last of each is the background.
        file: where to write.
        names: class number → name.
        normalize: divide each column by its sum, so that it says what became of the objects of one class; shares below
            0.005 are left blank.

    Raises:
        OutputError: the picture cannot be written.
    """
    counts = np.atleast_2d(np.asarray(matrix, dtype=np.float64))
    shown = counts / (counts.sum(axis=0, keepdims=True) + 1e-9) if normalize else counts
    shown = np.where(shown < (0.005 if normalize else 0.5), np.nan, shown)
    size = len(counts)
    side = float(np.clip(2.2 + 0.42 * size, 3.4, 12.5))  # inches of the matrix itself
    labels = [*(name_of(names, index) for index in range(size - 1)), "background"]
    font = float(np.clip(0.55 * 72 * side / size, 4.0, 9.0))  # a bit more than half a cell, in points
    beside = max(map(len, labels)) * font * 0.6 / 72 + 0.6  # inches that the names need
    upright = max(map(len, labels)) * font * 0.6 / 72 > 0.9 * side / size
    figure, grid = new_figure(1, 1, size=(side + beside + 1.0, side + (beside if upright else 0.6) + 0.4))
    axes = grid[0, 0]
    quiet(axes, grid=False, xlabel="True class", ylabel="Predicted class")
    axes.set_title(f"Confusion matrix{', by true class' if normalize else ''}", fontsize=11, color=INK)
    top = 1.0 if normalize else max(float(np.nanmax(shown, initial=0.0)), 1.0)
    image = axes.imshow(shown, cmap="Blues", vmin=0.0, vmax=top, interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, aspect=30)
    bar.ax.tick_params(labelsize=8, colors=SOFT)
    bar.outline.set_visible(False)
    if size <= _NAMED_ROWS:
        axes.set_xticks(range(size), labels, rotation=90 if upright else 0, fontsize=font, fontfamily=families())
        axes.set_yticks(range(size), labels, fontsize=font, fontfamily=families())
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(True, which="minor", color="#eeeeee", linewidth=0.6 if size <= _NUMBERED_CELLS else 0.2)
    axes.tick_params(which="minor", length=0)
    if size - 1 <= _NUMBERED_CELLS:
        font = float(np.clip(150 / size, 5.0, 11.0))
        for row, column in zip(*np.nonzero(np.isfinite(shown)), strict=True):
            value = shown[row, column]
            axes.text(
                *(column, row, f"{value:.2f}" if normalize else f"{value:.0f}"),
                ha="center",
                va="center",
                fontsize=font,
                color="white" if value > 0.55 * top else INK,
            )
    return save_figure(figure, file)
