"""labels.jpg: what the labels of a data set look like, before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sightline.artifacts.figures.keypoint_labels import keypoints_in_boxes, labelled_keypoints
from sightline.artifacts.figures.style import INK, SOFT, families, name_of, new_figure, quiet, remark, save_figure
from sightline.structures.draw import PALETTE

_OVERLAID = 1000  # boxes; more only make the picture darker
_NAMED_BARS = 100

Numbers = npt.NDArray[np.float64]


def plot_labels(
    boxes_xywhn: npt.ArrayLike,
    classes: npt.ArrayLike,
    names: Mapping[int, str] | Sequence[str],
    save_dir: str | os.PathLike[str],
    *,
    keypoints: npt.ArrayLike | None = None,
    file: str = "labels.jpg",
) -> Path:
    """Four panels: objects of each class, boxes laid over each other, where their centres lie, how large they are.
    With keypoints two more: where they lie in their boxes, and how often each is labelled.

    Args:
        boxes_xywhn: (N, 4) centre and size, divided by the size of the image. N may be 0.
        classes: (N,) class numbers.
        names: class number → name.
        save_dir: the folder of the run.
        keypoints: (N, K, 3) x, y divided by the image size, visibility; None where the data has none.
        file: name of the picture there.

    Raises:
        OutputError: the picture cannot be written.
    """
    boxes = np.asarray(boxes_xywhn, dtype=np.float64).reshape(-1, 4)
    numbers = np.asarray(classes, dtype=np.float64).reshape(-1).astype(int)
    rows = 2 if keypoints is None else 3
    figure, grid = new_figure(rows, 2, size=(11.0, 4.8 * rows))
    figure.suptitle(f"Labels · {len(boxes):,} objects", fontsize=13, color=INK)
    _class_counts(grid[0, 0], numbers, names)
    _overlaid_boxes(grid[0, 1], boxes, numbers)
    if keypoints is not None:
        points = np.asarray(keypoints, dtype=np.float64)
        keypoints_in_boxes(grid[2, 0], points, boxes)
        labelled_keypoints(grid[2, 1], points)
    centres, sizes = grid[1]
    _heat_map(figure, centres, boxes[:, :2], "Centres of the boxes", ("x / image width", "y / image height"))
    centres.invert_yaxis()  # as in the image, y grows downwards
    _heat_map(figure, sizes, boxes[:, 2:], "Sizes of the boxes", ("width / image width", "height / image height"))
    return save_figure(figure, Path(save_dir) / file, dpi=130)


def _class_counts(axes: Any, numbers: npt.NDArray[np.int_], names: Mapping[int, str] | Sequence[str]) -> None:
    total = max(len(names), int(numbers.max(initial=-1)) + 1)
    counts = np.bincount(numbers, minlength=total) if total else np.zeros(0, dtype=int)
    quiet(axes, "Objects of each class", ylabel="objects")
    axes.grid(False, axis="x")
    if total == 0:
        remark(axes, "no classes")
        return
    axes.bar(range(total), counts, color=[PALETTE[index % len(PALETTE)] for index in range(total)], width=0.8)
    axes.set_xlim(-0.6 - (total < 4), total - 0.4 + (total < 4))  # one bar should not fill the panel
    axes.set_ylim(0, max(counts.max() * 1.1, 1))
    if total <= _NAMED_BARS:
        labels = [name_of(names, index) for index in range(total)]
        upright = total > 8 or max(map(len, labels)) * total > 50
        font = float(np.clip(420 / total, 4.5, 9))
        axes.set_xticks(range(total), labels, rotation=90 if upright else 0, fontsize=font, fontfamily=families())
    else:
        axes.set_xlabel("class", fontsize=9)
    if total <= 25:
        for index, count in enumerate(counts.tolist()):
            axes.annotate(
                f"{count:,}", (index, count), (0, 2), textcoords="offset points", ha="center", fontsize=7, color=SOFT
            )


def _overlaid_boxes(axes: Any, boxes: Numbers, numbers: npt.NDArray[np.int_]) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    # Evenly spaced through the data set: its first files are often alike.
    count = min(_OVERLAID, len(boxes))
    chosen = np.linspace(0, len(boxes) - 1, count).astype(int)
    note = f" ({count:,} of them)" if count < len(boxes) else ""
    quiet(axes, f"Boxes around a common centre{note}", xlabel="width / image width", ylabel="height / image height")
    axes.set_xlim(-0.5, 0.5)
    axes.set_ylim(-0.5, 0.5)
    axes.set_aspect("equal")
    if not count:
        remark(axes, "no labelled objects")
        return
    frames = [Rectangle((-w / 2, -h / 2), w, h) for w, h in boxes[chosen, 2:].tolist()]
    colours = [PALETTE[number % len(PALETTE)] for number in numbers[chosen].tolist()]
    alpha = float(np.clip(60 / count, 0.12, 0.8))
    axes.add_collection(PatchCollection(frames, facecolor="none", edgecolor=colours, linewidth=0.9, alpha=alpha))


def _heat_map(figure: Any, axes: Any, points: Numbers, title: str, labels_xy: tuple[str, str]) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    quiet(axes, title, xlabel=labels_xy[0], ylabel=labels_xy[1], grid=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    points = points[np.isfinite(points).all(axis=1)].clip(0, 1)
    if not len(points):
        remark(axes, "no labelled objects")
        return
    cells = int(np.clip(np.sqrt(len(points)) * 0.6, 12, 50))  # few objects in many cells would look like noise
    counts, edges, _ = np.histogram2d(points[:, 0], points[:, 1], bins=cells, range=((0, 1), (0, 1)))
    shown = np.ma.masked_less(counts.T, 1)
    # A few crowded cells must not make the rest look empty.
    image = axes.pcolormesh(edges, edges, shown, cmap="viridis_r", norm=LogNorm(vmin=1, vmax=max(counts.max(), 2)))
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
    bar.set_label("boxes per cell", fontsize=8, color=SOFT)
    bar.ax.tick_params(labelsize=7, colors=SOFT)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
