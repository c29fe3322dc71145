"""A batch on one picture: what the network sees, with its labels or its predictions."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sightline.artifacts.figures.style import shorten
from sightline.ops.boxes import xywhn_to_xyxy
from sightline.structures.boxes import as_numpy
from sightline.structures.draw import class_colour, draw_boxes, draw_text
from sightline.structures.lettering import letters_of
from sightline.structures.pictures import Picture, write_picture
from sightline.structures.skeleton import draw_keypoints

_SIDE = 1920  # pixels of the whole picture, at most
_GAP, _CAPTION = 6, 20  # pixels between tiles, and above each for its file name
_PAPER, _CAPTION_INK = (255, 255, 255), (70, 70, 70)
_NAMED_BOXES = 40  # in one tile; names of more would cover the image
_LEGEND_CLASSES = 40


@dataclass(frozen=True, slots=True)
class _Objects:
    """The objects of one image: boxes (N, 4) xyxy in pixels of the batch, classes (N,), scores (N,) or None, keypoints
    (N, K, 2 or 3) in pixels of the batch or None."""

    boxes: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int_]
    scores: npt.NDArray[np.float64] | None
    keypoints: npt.NDArray[np.float64] | None = None


def plot_images(
    batch: Mapping[str, Any],
    predictions: Sequence[Mapping[str, Any]] | None = None,
    *,
    file: str | os.PathLike[str],
    names: Mapping[int, str] | Sequence[str] = (),
    conf: float = 0.25,
    max_images: int = 16,
) -> Path:
    """Draw up to `max_images` of a batch as tiles, each under its file name, with boxes and class names.

    In a crowded tile the boxes stand without names; the legend at the bottom says what the colours mean.

    Args:
        batch: img (B, 3, H, W) RGB, uint8 or in [0, 1]; im_file, B paths; and unless there are predictions bboxes
            (N, 4) xywhn, cls (N, 1) and batch_idx (N,); keypoints (N, K, 3) divided by the size are drawn, too.
        predictions: for each image bboxes (n, 4) xyxy in pixels of the batch, conf (n,) and cls (n,); and keypoints
            (n, K, 2 or 3) in those pixels.
        file: where to write.
        names: class number → name.
        conf: predictions below it are left out.
        max_images: tiles.

    Returns:
        Where the picture is.

    Raises:
        OutputError: the picture cannot be written.
    """
    images = as_numpy(batch["img"][:max_images])
    paths = [str(path) for path in batch.get("im_file", [])] + [""] * len(images)
    table = names if isinstance(names, Mapping) else dict(enumerate(names))
    objects = [
        _labelled(batch, index, images.shape[2:]) if predictions is None else _predicted(predictions, index, conf)
        for index in range(len(images))
    ]
    columns = max(math.ceil(math.sqrt(len(images))), 1)
    rows = max(math.ceil(len(images) / columns), 1)
    height, width = images.shape[2:] if len(images) else (_SIDE // 4, _SIDE // 4)
    scale = min(1.0, (_SIDE / columns - _GAP) / width, (_SIDE / rows - _GAP - _CAPTION) / height)
    tile_h, tile_w = max(round(height * scale), 1), max(round(width * scale), 1)
    sheet: Picture = np.full(
        (rows * (tile_h + _CAPTION + _GAP) + _GAP, columns * (tile_w + _GAP) + _GAP, 3), 255, np.uint8
    )
    for index, image in enumerate(images):
        top = (index // columns) * (tile_h + _CAPTION + _GAP) + _GAP
        left = (index % columns) * (tile_w + _GAP) + _GAP
        _write_caption(sheet[top : top + _CAPTION, left : left + tile_w], paths[index])
        tile: Picture = cv2.resize(_as_bgr(image), (tile_w, tile_h), interpolation=cv2.INTER_AREA).astype(np.uint8)
        _draw_objects(tile, objects[index], (tile_w / width, tile_h / height), table)
        sheet[top + _CAPTION : top + _CAPTION + tile_h, left : left + tile_w] = tile
    seen = sorted({int(number) for each in objects for number in each.classes})
    return write_picture(file, np.ascontiguousarray(np.vstack([sheet, *_legend(seen, table, sheet.shape[1])])))


def _labelled(batch: Mapping[str, Any], index: int, shape_hw: tuple[int, int]) -> _Objects:
    mine = as_numpy(batch["batch_idx"]).reshape(-1) == index
    boxes = xywhn_to_xyxy(as_numpy(batch["bboxes"]).reshape(-1, 4)[mine].astype(np.float64), shape_hw)
    keypoints = None
    if "keypoints" in batch:
        height, width = shape_hw
        keypoints = as_numpy(batch["keypoints"])[mine].astype(np.float64)
        keypoints[..., :2] *= [width, height]
    return _Objects(boxes, as_numpy(batch["cls"]).reshape(-1)[mine].astype(int), None, keypoints)


def _predicted(predictions: Sequence[Mapping[str, Any]], index: int, conf: float) -> _Objects:
    found = predictions[index]
    scores = as_numpy(found["conf"]).astype(np.float64)
    kept = scores >= conf
    boxes = as_numpy(found["bboxes"]).astype(np.float64)[kept]
    keypoints = as_numpy(found["keypoints"]).astype(np.float64)[kept] if "keypoints" in found else None
    return _Objects(boxes, as_numpy(found["cls"])[kept].astype(int), scores[kept], keypoints)


def _as_bgr(image: npt.NDArray[Any]) -> Picture:
    """(C, H, W) RGB → (H, W, 3) BGR uint8; one channel is shown grey, of many the first three."""
    if image.dtype != np.uint8:
        image = (image.astype(np.float32) * 255).round().clip(0, 255).astype(np.uint8)
    chosen = image[:3][::-1] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    return np.ascontiguousarray(chosen.transpose(1, 2, 0))


def _write_caption(strip: Picture, path: str) -> None:
    if path:
        # About seven pixels a letter at this size: the middle of a long name is left out, its end tells more.
        text = shorten(Path(path).name, max(strip.shape[1] // 7, 8))
        draw_text(strip, text, (0, 1), text_size=12, background=_PAPER, text_colour=_CAPTION_INK)


def _draw_objects(tile: Picture, objects: _Objects, scale_xy: tuple[float, float], names: Mapping[int, str]) -> None:
    labels = [str(names.get(number, f"class{number}")) for number in objects.classes.tolist()]
    if objects.scores is not None:
        labels = [f"{label} {score:.2f}" for label, score in zip(labels, objects.scores.tolist(), strict=True)]
    if len(labels) > _NAMED_BOXES:
        labels = [""] * len(labels)
    draw_boxes(
        tile,
        objects.boxes * np.array([*scale_xy, *scale_xy]),
        labels,
        [class_colour(number) for number in objects.classes.tolist()],
        line_width=1 if min(tile.shape[:2]) < 400 else 2,
        text_size=10 if min(tile.shape[:2]) < 400 else 12,
    )
    if objects.keypoints is not None:
        points = objects.keypoints.copy()
        points[..., :2] *= scale_xy
        draw_keypoints(tile, points, radius=2 if min(tile.shape[:2]) < 400 else 3, line_width=1, limbs=True)


def _legend(classes: list[int], names: Mapping[int, str], width: int) -> list[Picture]:
    """A strip that names the colours; nothing when there are no objects, or so many classes that colours repeat."""
    if not classes or len(classes) > _LEGEND_CLASSES:
        return []
    lines: list[Picture] = []
    line, x = _blank_line(width), _GAP
    for number in classes:
        text = shorten(str(names.get(number, f"class{number}")), 30)
        needed = letters_of(text, 13).shape[1] + 30
        if x + needed > width and x > _GAP:
            lines.append(line)
            line, x = _blank_line(width), _GAP
        cv2.rectangle(line, (x, 6), (x + 11, 17), class_colour(number), -1)
        draw_text(line, text, (x + 14, 2), text_size=13, background=_PAPER, text_colour=_CAPTION_INK)
        x += needed
    return [*lines, line]


def _blank_line(width: int) -> Picture:
    return np.full((24, width, 3), 255, np.uint8)
