"""The panels of labels.jpg that only data with keypoints have: where each lies in its box, how often it is labelled."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sightline.artifacts.figures.style import INK, SOFT, quiet, remark
from sightline.structures.draw import PALETTE
from sightline.structures.skeleton import limbs_of

_CLOUD = 600  # objects whose points are shown; more only hide the means
_NAMED = 40  # keypoints; numbers of more would run into each other
_ROOM = 0.15  # around the box, as a share of it: points may lie outside

Numbers = npt.NDArray[np.float64]


def keypoints_in_boxes(axes: Any, keypoints: Numbers, boxes_xywhn: Numbers) -> None:
    """The labelled points of all objects, each box stretched to a square, and the mean object: its points with their
    numbers and limbs. A wrong order of the points, or a wrong flip_idx, is seen here.

    Args:
        keypoints: (N, K, 3) x, y divided by the image size, visibility.
        boxes_xywhn: (N, 4) divided by the image size.
    """
    quiet(axes, "Keypoints in their boxes", xlabel="x / box width", ylabel="y / box height")
    axes.set_xlim(-_ROOM, 1 + _ROOM)
    axes.set_ylim(1 + _ROOM, -_ROOM)  # as in the image, y grows downwards
    axes.set_aspect("equal")
    corner, size = boxes_xywhn[:, :2] - boxes_xywhn[:, 2:] / 2, boxes_xywhn[:, 2:]
    labelled = (keypoints[..., 2] > 0) & (size > 0).all(axis=-1)[:, None]  # (N, K)
    if not labelled.any():
        remark(axes, "no labelled keypoints")
        return
    places = (keypoints[..., :2] - corner[:, None]) / np.maximum(size, 1e-9)[:, None]  # (N, K, 2)
    chosen = np.linspace(0, len(places) - 1, min(_CLOUD, len(places))).astype(int)
    means: dict[int, Numbers] = {}
    for number in range(keypoints.shape[1]):
        if not labelled[:, number].any():
            continue
        means[number] = places[labelled[:, number], number].mean(axis=0)
        cloud = places[chosen, number][labelled[chosen, number]]
        alpha = float(np.clip(40 / max(len(cloud), 1), 0.12, 0.8))
        axes.scatter(*cloud.T, s=5, color=_colour(number), alpha=alpha, linewidths=0)
    for first, second in limbs_of(keypoints.shape[1]):
        if first in means and second in means:
            axes.plot(*np.stack([means[first], means[second]]).T, color=SOFT, linewidth=1.0, zorder=3)
    for number, mean in means.items():
        axes.scatter(*mean, s=46, color=_colour(number), edgecolors=INK, linewidths=0.8, zorder=4)
        if keypoints.shape[1] <= _NAMED:
            axes.annotate(str(number), mean, (5, 4), textcoords="offset points", fontsize=7, color=INK, zorder=5)


def labelled_keypoints(axes: Any, keypoints: Numbers) -> None:
    """Bars: on how many objects each keypoint is seen, and on top of it, hidden (visibility 1).

    Args:
        keypoints: (N, K, 3) x, y, visibility.
    """
    quiet(axes, "Objects on which each keypoint is labelled", xlabel="keypoint", ylabel="objects")
    axes.grid(False, axis="x")
    count = keypoints.shape[1]
    seen = (keypoints[..., 2] > 1).sum(axis=0)  # (K,)
    hidden = (keypoints[..., 2] > 0).sum(axis=0) - seen
    axes.bar(range(count), seen, color=[_colour(number) for number in range(count)], width=0.8)
    if hidden.any():
        axes.bar(range(count), hidden, bottom=seen, color="white", edgecolor=SOFT, hatch="////", label="hidden")
    axes.axhline(len(keypoints), color=SOFT, linewidth=0.8, linestyle="--", label="all objects")
    axes.set_ylim(0, max(len(keypoints) * 1.2, 1))  # room for the legend
    axes.set_xlim(-0.6 - (count < 4), count - 0.4 + (count < 4))  # one bar should not fill the panel
    if count <= _NAMED:
        axes.set_xticks(range(count), [str(number) for number in range(count)])
    axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=2, labelcolor=INK)


def _colour(number: int) -> str:
    return PALETTE[number % len(PALETTE)]
