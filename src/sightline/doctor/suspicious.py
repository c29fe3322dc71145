"""Labels that are formally right and probably wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch

from sightline.data.index import LabelIndex
from sightline.ops.boxes import xywhn_to_xyxy
from sightline.ops.iou import pairwise_iou

SAME = 0.9  # IoU of two boxes that are about one object
WHOLE = 0.95  # share of the image's area that hardly any object fills
THIN = 20.0  # ratio of the sides
TINY = 1.5  # pixels of a side at imgsz, less than a network can see
FAR = 5.0  # of the class's typical spread (in the logarithm of the side) that a size lies off
KNOWN = 30  # objects that a class needs before its typical size is known

FILLS, SMALL, LONG, ODD, TWICE, TWO = (
    "fills the whole image", f"less than {TINY:g} pixels", f"sides differ {THIN:g}-fold and more",
    "far from the usual size of its class", "labelled twice", "one object, two classes",
)  # fmt: skip
REMEDIES = {
    FILLS: "fine for a close-up, else a box drawn by mistake: remove it.",
    SMALL: "too small to be learnt at this imgsz: a larger imgsz, or remove what is only a click.",
    LONG: "look whether the box fits; thin slanted objects make poor boxes.",
    ODD: "look whether class and box are right.",
    TWICE: "keep one of the two boxes.",
    TWO: "keep the right class, or merge the two if both are.",
}


def suspicious(index: LabelIndex, names: dict[int, str], imgsz: int) -> dict[str, list[str]]:
    """Kind of suspicion, one of `REMEDIES` → `file: what` for each label."""
    found: dict[str, list[str]] = defaultdict(list)
    counts = index.object_counts()
    owner = np.repeat(np.arange(len(index)), counts)
    scale = imgsz / np.maximum(index.shapes.max(axis=1), 1)
    sides = index.boxes[:, 2:] * index.shapes[owner][:, ::-1] * scale[owner, None]  # (R, 2) pixels at imgsz
    for row in np.flatnonzero(index.boxes[:, 2:].prod(axis=1) > WHOLE):
        found[FILLS].append(_say(index, owner, row, names))
    for row in np.flatnonzero(sides.min(axis=1) < TINY):
        found[SMALL].append(_say(index, owner, row, names))
    ratio = sides.max(axis=1) / np.maximum(sides.min(axis=1), 1e-6)
    for row in np.flatnonzero(ratio > THIN):
        found[LONG].append(_say(index, owner, row, names))
    for row in _odd_sizes(sides, index.classes):
        found[ODD].append(_say(index, owner, row, names))
    for kind, image, text in _overlapping(index, names):
        found[kind].append(f"{index.paths[image]}: {text}")
    return dict(found)


def _odd_sizes(sides: np.ndarray, classes: np.ndarray) -> Iterator[int]:
    side = np.log(np.maximum(np.sqrt(sides.prod(axis=1)), 1e-6))
    for number in np.unique(classes):
        rows = np.flatnonzero(classes == number)
        if len(rows) < KNOWN:
            continue
        middle = np.median(side[rows])
        spread = 1.4826 * np.median(np.abs(side[rows] - middle))  # as a standard deviation, if it is normal
        # Objects of one size exactly have no spread; a tenth of the size is not odd.
        yield from rows[np.abs(side[rows] - middle) > FAR * max(spread, 0.1)]


def _overlapping(index: LabelIndex, names: dict[int, str]) -> Iterator[tuple[str, int, str]]:
    for image in range(len(index)):
        labels = index.labels(image)
        if len(labels.classes) < 2:
            continue
        boxes = xywhn_to_xyxy(torch.from_numpy(np.array(labels.boxes)), (1, 1))
        overlap = pairwise_iou(boxes, boxes).numpy()
        for a, b in zip(*np.nonzero(np.triu(overlap > SAME, 1)), strict=True):
            one, other = (names.get(int(labels.classes[i]), str(int(labels.classes[i]))) for i in (a, b))
            if one == other:
                yield TWICE, image, f"two boxes of {one} overlap by {overlap[a, b]:.0%}"
            else:
                yield TWO, image, f"{one} and {other} overlap by {overlap[a, b]:.0%}"


def _say(index: LabelIndex, owner: np.ndarray, row: int, names: dict[int, str]) -> str:
    image, number = int(owner[row]), int(index.classes[row])
    width, height = index.boxes[row, 2:] * index.shapes[image][::-1]
    return f"{index.paths[image]}: {names.get(number, number)} of {width:.0f}×{height:.0f} pixels"
