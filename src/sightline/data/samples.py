"""The built-in data set `shapes`: drawn here from fixed seeds, so that training can be tried without any download.

300 training and 60 validation images of 320 px. Five classes that differ in outline only: colour, filling, size, tilt
and proportions are drawn from the same distributions for all. Backgrounds are textured; a tenth of the images has no
object. Drawn with NumPy alone, so that the pixels do not depend on the version of a drawing library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sightline.log import LOGGER

CLASSES = ("circle", "square", "triangle", "star", "cross")
COUNTS = {"train": 300, "val": 60}
SIZE = 320  # pixels, both sides
SIDES = (12, 160)  # pixels, of the box of what is visible
SMALL = 24  # pixels: below it an object counts as small
OVER = 0.35  # how often an object is put over another one, where there is one
BACKGROUNDS = 10  # every tenth image has no object
MOST_HIDDEN = 0.4  # of an object's area: what remains still tells the class
TILT = 10  # degrees to either side: with any angle allowed, the classes take a network twice as long to tell apart
CONTRAST = 100  # in one channel at least, to what lies below; above 107 there might be no such colour
LEVELS = 4  # colours are multiples of it: nobody sees it, and the files are half as large
SEED = 1  # another number is another data set; so is any change to the drawing


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture and its objects.

    image: (320, 320, 3) uint8 BGR. rows: (N, 5) class, cx, cy, w, h divided by 320, around what is visible.
    hidden: (N,) share of each object's area that others cover.
    """

    image: np.ndarray
    rows: np.ndarray
    hidden: np.ndarray


def write_shapes(folder: Path) -> None:
    """Draw all images and labels below `folder`: images/train, labels/train, images/val, labels/val."""
    write_drawings(folder, "shapes", COUNTS, _picture_and_label)


def write_drawings(
    folder: Path, name: str, counts: Mapping[str, int], draw: Callable[[str, int], tuple[np.ndarray, str]]
) -> None:
    """The files of a built-in data set.

    Args:
        counts: split → images.
        draw: split, number → (H, W, 3) BGR, and the text of the label file.
    """
    LOGGER.info(f"Drawing the built-in data set {name} ({sum(counts.values())} images)")
    for split in counts:
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)

    def write(split: str, i: int) -> None:
        image, label = draw(split, i)
        done, content = cv2.imencode(".png", image)
        assert done
        content.tofile(folder / "images" / split / f"{i:04d}.png")
        (folder / "labels" / split / f"{i:04d}.txt").write_text(label, encoding="utf-8")

    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda job: write(*job), [(split, i) for split, count in counts.items() for i in range(count)]))


def _picture_and_label(split: str, i: int) -> tuple[np.ndarray, str]:
    scene = draw_scene(split, i)
    return scene.image, "".join(f"{int(c)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, x, y, w, h in scene.rows)


def draw_scene(split: str, i: int) -> Scene:
    """Image `i` of a split, always the same."""
    rng = np.random.Generator(np.random.PCG64([SEED, list(COUNTS).index(split), i]))
    image = background(rng)
    owner = np.zeros((SIZE, SIZE), np.int32)  # which object a pixel belongs to, counted from 1
    areas: list[int] = []
    classes: list[int] = []
    wanted = 0 if i % BACKGROUNDS == BACKGROUNDS - 1 else int(rng.integers(1, 13))
    for _ in range(4 * wanted):  # a crowded image ends with fewer objects than wanted
        kind = int(rng.integers(len(CLASSES)))
        placed = place(rng, _polygon(rng, kind), owner, areas) if len(classes) < wanted else None
        if placed is None:
            continue
        coverage, inside, left, top = placed
        paint(rng, image, coverage, left, top)
        height, width = inside.shape
        owner[top : top + height, left : left + width][inside] = len(classes) + 1
        classes.append(kind)
        areas.append(int(inside.sum()))
    boxes = np.array([box(owner == number) for number in range(1, len(classes) + 1)]).reshape(-1, 4)
    visible = np.array([(owner == number).sum() for number in range(1, len(classes) + 1)])
    rows = np.concatenate([np.array(classes, float).reshape(-1, 1), centred(boxes) / SIZE], axis=1)
    pixels = (image.clip(0, 255) / LEVELS).astype(np.uint8) * LEVELS
    return Scene(pixels, rows, 1 - visible / np.maximum(areas, 1))


# ------------------------------------------------------------------------------------------------- outlines


def outline(kind: int) -> np.ndarray:
    """(V, 2) corners of a class in the unit circle, one way round, upright (y points down)."""
    name = CLASSES[kind]
    if name == "cross":
        arm = 0.3
        quarter = np.array([[1, -arm], [1, arm], [arm, arm]])
        return np.concatenate([quarter @ turn(np.pi / 2 * k).T for k in range(4)])
    count = {"circle": 40, "square": 4, "triangle": 3, "star": 10}[name]
    first = -np.pi / 4 if name == "square" else -np.pi / 2  # a square lies on its side, the others point up
    angles = first + 2 * np.pi * np.arange(count) / count
    radius = np.where(np.arange(count) % 2, 0.42, 1.0) if name == "star" else 1.0
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _polygon(rng: np.random.Generator, kind: int) -> np.ndarray:
    """(V, 2) corners in pixels around 0, tilted, stretched a little, of a size drawn for all classes alike."""
    stretch = np.array([1.0, rng.uniform(0.8, 1.25)])
    corners = (outline(kind) * stretch) @ turn(np.radians(rng.uniform(-TILT, TILT))).T
    small = rng.random() < 0.16
    longest = rng.uniform(14, SMALL - 1) if small else np.exp(rng.uniform(np.log(48), np.log(150)))
    sides = np.ptp(corners, axis=0)
    # A box must not get thinner than the smallest side the data set promises.
    return corners * max(longest / sides.max(), (SIDES[0] + 1.5) / sides.min())


def _coverage(corners: np.ndarray, width: int, height: int) -> np.ndarray:
    """(height, width) in [0, 1]: how much of each pixel lies inside, from the distance of its centre to the outline."""
    x, y = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
    distance = np.full((height, width), np.inf)
    inside = np.zeros((height, width), bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        dx, dy = x2 - x1, y2 - y1
        along = (((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy)).clip(0, 1)
        distance = np.minimum(distance, np.hypot(x - x1 - along * dx, y - y1 - along * dy))
        if dy:
            # A ray to the right crosses this edge: an odd number of crossings means inside.
            inside ^= ((y1 > y) != (y2 > y)) & (x < dx * (y - y1) / dy + x1)
    return (np.where(inside, distance, -distance) + 0.5).clip(0, 1)


# ------------------------------------------------------------------------------------------------- placing


def place(
    rng: np.random.Generator, corners: np.ndarray, owner: np.ndarray, areas: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, int, int] | None:
    """A place for a new object: (coverage, inside, left, top), or None after a number of tries.

    Some objects are put over the edge of another one, the others beside all of them. `corners`, (V, 2) in pixels, are
    moved, in place, to where they lie from (left, top) on.
    """
    corners -= corners.min(axis=0) - 1
    width, height = (int(side) for side in np.ceil(corners.max(axis=0)) + 1)
    if max(width, height) > SIDES[1]:
        return None
    coverage = _coverage(corners, width, height)
    inside = coverage > 0.5
    if min(np.ptp(np.argwhere(inside), axis=0) + 1) < SIDES[0]:  # thin tips may cover less than half of their pixels
        return None
    over = len(areas) > 0 and rng.random() < OVER
    for _ in range(40):
        left, top = int(rng.integers(0, SIZE - width + 1)), int(rng.integers(0, SIZE - height + 1))
        if over:
            other = box(owner == rng.integers(1, len(areas) + 1))
            corner = other[[0, 1]] if rng.random() < 0.5 else other[[2, 3]]
            left, top = (np.array([left, top]) * 0.3 + (corner - [width / 2, height / 2]) * 0.7).astype(int)
            if not (0 <= left <= SIZE - width and 0 <= top <= SIZE - height):
                continue
        below = owner[top : top + height, left : left + width]
        hit = np.unique(below[inside])
        hit = hit[hit > 0]
        if len(hit) == 0:
            # A gap of a few pixels keeps neighbours apart that are not meant to overlap.
            near = owner[max(top - 3, 0) : top + height + 3, max(left - 3, 0) : left + width + 3]
            if not over and not near.any():
                return coverage, inside, int(left), int(top)
        elif over and all(_stays_clear(owner, number, areas[number - 1], inside, left, top) for number in hit):
            return coverage, inside, int(left), int(top)
    return None


def _stays_clear(owner: np.ndarray, number: int, area: int, inside: np.ndarray, left: int, top: int) -> bool:
    """Whether an object can still be told, and its box is not too small, when a new one covers a part of it."""
    visible = owner == number
    visible[top : top + inside.shape[0], left : left + inside.shape[1]] &= ~inside
    if visible.sum() < (1 - MOST_HIDDEN) * area:
        return False
    x1, y1, x2, y2 = box(visible)
    return min(x2 - x1, y2 - y1) >= SIDES[0] + 6  # small ones are hard enough without being covered


def box(mask: np.ndarray) -> np.ndarray:
    """(4,) xyxy around the True pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=float)


def centred(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


# ------------------------------------------------------------------------------------------------- painting


def _noise(rng: np.random.Generator, cells: int, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """(height, width) smooth noise in [0, 1]; `cells` bumps would fit in 320 pixels."""
    grid = rng.random((cells + 1, cells + 1))
    at = np.linspace(0, cells, SIZE)
    low = np.minimum(at.astype(int), cells - 1)
    part = at - low
    part = part * part * (3 - 2 * part)  # no visible seams between cells
    down, right = low[:height], low[:width]
    rows = grid[down] + part[:height, None] * (grid[down + 1] - grid[down])  # (height, cells + 1)
    left = rows[:, right]
    return left + part[:width] * (rows[:, right + 1] - left)


def _waves(rng: np.random.Generator, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """(height, width) stripes in [0, 1], straight or bent."""
    angle, length = rng.uniform(0, np.pi), rng.uniform(8, 40)
    phase = _noise(rng, 4, height, width) * rng.uniform(0, 30)
    phase += np.arange(width) * np.cos(angle) + np.arange(height)[:, None] * np.sin(angle)
    return 0.5 + 0.5 * np.sin(phase * (2 * np.pi / length))


def _colour(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(20, 235, 3)


def background(rng: np.random.Generator) -> np.ndarray:
    """(320, 320, 3) float32: two or three colours mixed by noise, stripes or patches, with grain."""
    style = int(rng.integers(4))
    first = _colour(rng)
    second = (first + rng.uniform(-45, 45, 3)).clip(10, 245)
    mix = 0.6 * _noise(rng, int(rng.integers(2, 6))) + 0.4 * _noise(rng, int(rng.integers(8, 24)))
    if style == 1:
        mix = 0.5 * mix + 0.5 * _waves(rng)
    elif style == 2:
        mix = np.floor(mix * 5) / 4  # patches with hard edges, like a map or camouflage
    elif style == 3:
        mix = 0.5 * mix + 0.5 * ((_waves(rng) > 0.5) ^ (_waves(rng) > 0.5))
    grain = rng.normal(0, rng.uniform(0, 2.5), (SIZE // 2, SIZE // 2))
    image = np.empty((SIZE, SIZE, 3), np.float32)
    for channel in range(3):
        image[:, :, channel] = first[channel] + mix * (second - first)[channel]
    image += np.repeat(np.repeat(grain, 2, axis=0), 2, axis=1)[:, :, None].astype(np.float32)
    return image


def paint(rng: np.random.Generator, image: np.ndarray, coverage: np.ndarray, left: int, top: int) -> None:
    """Put an object over the image, in place; its colours stand out from what lies below."""
    height, width = coverage.shape
    patch = image[top : top + height, left : left + width]
    below = patch[coverage > 0].mean(axis=0)
    colour = _colour(rng)
    while np.abs(colour - below).max() < CONTRAST:
        colour = _colour(rng)
    other = colour + np.sign(colour - below) * rng.uniform(0, 25)  # away from the background, never towards it
    style = int(rng.integers(4))
    if style == 0:
        mix = np.zeros((height, width))
    elif style == 1:
        mix = np.broadcast_to(np.linspace(0, 1, width), (height, width))
    elif style == 2:
        mix = _waves(rng, height, width)
    else:
        mix = _noise(rng, int(rng.integers(20, 50)), height, width)
    filling = colour + mix[:, :, None] * (other - colour)
    patch += coverage[:, :, None] * (filling - patch)
