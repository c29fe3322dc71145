"""The built-in data set `shapes-pose`: arrows and houses with five keypoints each, drawn as `samples.py` draws shapes.

240 training and 60 validation images of 320 px. The keypoints are corners: 0 the top, then upper right, lower right,
lower left, upper left as seen from the figure, which is tilted by up to 40 degrees. A corner that another figure covers
is labelled as hidden. In a mirrored image right and left change names, which `flip_idx` of the data set says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.data.samples import (
    BACKGROUNDS,
    LEVELS,
    SIZE,
    background,
    box,
    centred,
    paint,
    place,
    turn,
    write_drawings,
)

CLASSES = ("arrow", "house")
COUNTS = {"train": 240, "val": 60}
TILT = 40  # degrees to either side
LONGEST = (56, 150)  # pixels, of the longer side
SEED = 11  # another number is another data set; so is any change to the drawing

# Corners in the unit square, upright (y points down), and which of them are keypoints 0 to 4.
OUTLINES = {
    "arrow": np.array([[0, -1], [0.8, -0.1], [0.35, -0.1], [0.35, 1], [-0.35, 1], [-0.35, -0.1], [-0.8, -0.1]]),
    "house": np.array([[0, -1], [0.75, -0.2], [0.75, 0.9], [-0.75, 0.9], [-0.75, -0.2]]),
}
KEYPOINTS = {"arrow": [0, 1, 3, 4, 6], "house": [0, 1, 2, 3, 4]}


@dataclass(frozen=True, slots=True)
class PoseScene:
    """One picture and its figures.

    image: (320, 320, 3) uint8 BGR. rows: (N, 5) class, cx, cy, w, h divided by 320, around what is visible.
    keypoints: (N, 5, 3) x, y divided by 320, visibility 1 (hidden) or 2.
    """

    image: np.ndarray
    rows: np.ndarray
    keypoints: np.ndarray


def write_shapes(folder: Path) -> None:
    """Draw all images and labels below `folder`: images/train, labels/train, images/val, labels/val."""
    write_drawings(folder, "shapes-pose", COUNTS, _picture_and_label)


def _picture_and_label(split: str, i: int) -> tuple[np.ndarray, str]:
    scene = draw_scene(split, i)
    lines = []
    for row, points in zip(scene.rows.tolist(), scene.keypoints.tolist(), strict=True):
        values = [f"{int(row[0])}", *(f"{value:.6f}" for value in row[1:])]
        lines.append(" ".join([*values, *(f"{x:.6f} {y:.6f} {int(seen)}" for x, y, seen in points)]) + "\n")
    return scene.image, "".join(lines)


def draw_scene(split: str, i: int) -> PoseScene:
    """Image `i` of a split, always the same."""
    rng = np.random.Generator(np.random.PCG64([SEED, list(COUNTS).index(split), i]))
    image = background(rng)
    owner = np.zeros((SIZE, SIZE), np.int32)  # which figure a pixel belongs to, counted from 1
    areas: list[int] = []
    classes: list[int] = []
    points: list[np.ndarray] = []
    wanted = 0 if i % BACKGROUNDS == BACKGROUNDS - 1 else int(rng.integers(1, 6))
    for _ in range(4 * wanted):  # a crowded image ends with fewer figures than wanted
        if len(classes) == wanted:
            break
        kind = int(rng.integers(len(CLASSES)))
        corners = _figure(rng, kind)
        placed = place(rng, corners, owner, areas)
        if placed is None:
            continue
        coverage, inside, left, top = placed
        paint(rng, image, coverage, left, top)
        height, width = inside.shape
        owner[top : top + height, left : left + width][inside] = len(classes) + 1
        classes.append(kind)
        areas.append(int(inside.sum()))
        points.append(corners[KEYPOINTS[CLASSES[kind]]] + [left, top])
    count = len(classes)
    boxes = np.array([box(owner == number) for number in range(1, count + 1)]).reshape(-1, 4)
    rows = np.concatenate([np.array(classes, float).reshape(-1, 1), centred(boxes) / SIZE], axis=1)
    keypoints = np.array([_with_visibility(each, owner, number) for number, each in enumerate(points, start=1)])
    pixels = (image.clip(0, 255) / LEVELS).astype(np.uint8) * LEVELS
    return PoseScene(pixels, rows, keypoints.reshape(-1, 5, 3) / [SIZE, SIZE, 1])


def _figure(rng: np.random.Generator, kind: int) -> np.ndarray:
    """(V, 2) corners in pixels around 0, tilted and of a size drawn for both classes alike."""
    stretch = np.array([rng.uniform(0.85, 1.15), 1.0])
    corners = (OUTLINES[CLASSES[kind]] * stretch) @ turn(np.radians(rng.uniform(-TILT, TILT))).T
    return corners * np.exp(rng.uniform(*np.log(LONGEST))) / np.ptp(corners, axis=0).max()


def _with_visibility(points: np.ndarray, owner: np.ndarray, number: int) -> np.ndarray:
    """(5, 2) corners → (5, 3). A corner is hidden if the pixel there belongs to a figure that was drawn later."""
    x, y = points.astype(int).clip(0, SIZE - 1).T
    return np.column_stack([points, np.where(owner[y, x] > number, 1, 2)])
