"""Precision over recall, and precision, recall and F1 over the confidence threshold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sightline.artifacts.figures.style import (
    INK,
    NAMED_CLASSES,
    SOFT,
    legend_beside,
    name_of,
    new_figure,
    quiet,
    remark,
    save_figure,
)
from sightline.metrics.average_precision import smooth
from sightline.structures.draw import PALETTE

Names = Mapping[int, str] | Sequence[str]
_BUNDLE = "#b9c6d8"  # lines that no name goes with


def plot_pr_curve(
    px: npt.ArrayLike,
    py: npt.ArrayLike,
    ap: npt.ArrayLike,
    file: str | os.PathLike[str] = "BoxPR_curve.png",
    names: Names = (),
    *,
    classes: npt.ArrayLike | None = None,
) -> Path:
    """Precision over recall at IoU 0.5, a line a class and a thick one for their mean.

    Args:
        px: (P,) recalls.
        py: (C, P) precision of each class; C may be 0.
        ap: (C, T) AP of each class, the first column at IoU 0.5.
        file: where to write.
        names: class number → name.
        classes: (C,) the class numbers of the rows; None means that row i is class i.

    Raises:
        OutputError: the picture cannot be written.
    """
    x, y, precisions = np.asarray(px, dtype=float), _rows(py), np.asarray(ap, dtype=float)
    ap50 = precisions[:, 0] if precisions.ndim == 2 else precisions.reshape(-1)
    figure, axes = _unit_square("Precision–recall curve", "Recall", "Precision")
    if len(ap50) == 0 or len(y) != len(ap50):
        remark(axes, "no labelled objects, no curve")
    else:
        _class_lines(axes, x, y, names, classes, [f"{value:.3f}" for value in ap50])
        axes.plot(x, y.mean(axis=0), color=INK, linewidth=2.8, label=f"all classes {ap50.mean():.3f} mAP@0.5")
        legend_beside(axes)
    return save_figure(figure, file)


def plot_metric_curve(
    px: npt.ArrayLike,
    py: npt.ArrayLike,
    file: str | os.PathLike[str] = "BoxF1_curve.png",
    names: Names = (),
    xlabel: str = "Confidence",
    ylabel: str = "Metric",
    *,
    classes: npt.ArrayLike | None = None,
) -> Path:
    """A metric over the confidence threshold, a line a class and a thick one for their mean, with its highest point.

    Args:
        px: (P,) confidences.
        py: (C, P) the metric of each class; C may be 0.
        file: where to write.
        names: class number → name.
        xlabel: of the horizontal axis.
        ylabel: name of the metric.
        classes: (C,) the class numbers of the rows; None means that row i is class i.

    Raises:
        OutputError: the picture cannot be written.
    """
    x, y = np.asarray(px, dtype=float), _rows(py)
    figure, axes = _unit_square(f"{ylabel} over {xlabel.lower()}", xlabel, ylabel)
    if len(y) == 0 or y.shape[1] != len(x):
        remark(axes, "no labelled objects, no curve")
    else:
        _class_lines(axes, x, y, names, classes, None)
        mean = y.mean(axis=0)
        # The same smoothing by which validation chooses its best confidence.
        best = int(smooth(mean, 0.1)[: len(x)].argmax())
        label = f"all classes {mean[best]:.2f} at {x[best]:.3f}"
        axes.plot(x, mean, color=INK, linewidth=2.8, label=label)
        axes.axvline(x[best], color=SOFT, linewidth=1, linestyle=":")
        axes.plot(x[best], mean[best], marker="o", color=INK, markersize=6, clip_on=False)
        legend_beside(axes)
    return save_figure(figure, file)


def _rows(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    rows = np.asarray(values, dtype=np.float64)
    return rows if rows.ndim == 2 else rows.reshape(1 if rows.size else 0, rows.size)


def _unit_square(title: str, xlabel: str, ylabel: str) -> tuple[Any, Any]:
    figure, grid = new_figure(1, 1, size=(8.0, 5.2))
    axes = grid[0, 0]
    quiet(axes, title, xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, fontsize=12, color=INK)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    return figure, axes


def _class_lines(
    axes: Any,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    names: Names,
    classes: npt.ArrayLike | None,
    values: list[str] | None,
) -> None:
    """A coloured, named line a class; many classes become one grey bundle, which shows how far they are apart."""
    numbers = np.arange(len(y)) if classes is None else np.asarray(classes, dtype=int)
    if len(y) > NAMED_CLASSES:
        axes.plot(x, y.T, color=_BUNDLE, linewidth=0.7)
        axes.plot([], [], color=_BUNDLE, linewidth=2, label=f"{len(y)} classes")
        return
    # Rows of some classes only, and nobody said which: no name is better than a wrong one.
    named = classes is not None or len(names) == len(y)
    for row, number in enumerate(numbers.tolist()):
        label = name_of(names, number) if named else "_"
        axes.plot(
            x,
            y[row],
            color=PALETTE[number % len(PALETTE)] if named else _BUNDLE,
            linewidth=1.3,
            label=f"{label} {values[row]}" if values and named else label,
        )
