"""One tile, upright, into an output on whose pixel borders one of its corners lies: a resize, three times as fast as a
warp.

A resize takes the outer borders of its input to the outer borders of its output. So it shows what an upright matrix
shows if a border of the tile falls between two pixels of the output; `snap` moves a matrix by less than half a pixel to
make it so. When that border is the right (lower) one, the tile is mirrored before and after.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from sightline.structures.sample import Array

TOLERANCE = 2e-3  # pixels; matrices are float32, of values up to some thousand


def is_upright(matrix: Array) -> bool:
    """Whether a (3, 3) matrix only enlarges or reduces, and shifts."""
    turned = matrix[0, 1] or matrix[1, 0] or matrix[2, 0] or matrix[2, 1]
    return bool(not turned and matrix[0, 0] > 0 and matrix[1, 1] > 0 and matrix[2, 2] == 1)


def snap(matrix: Array, corner_xy: tuple[int, int]) -> Array:
    """An upright matrix moved by at most half a pixel, so that the upper left corner of canvas pixel `corner_xy` falls
    on a corner of output pixels. Other matrices come back as they are."""
    if not is_upright(matrix):
        return matrix
    snapped = matrix.astype(np.float64)
    for axis, pixel in enumerate(corner_xy):
        border = _border(snapped[axis, axis], snapped[axis, 2], pixel)
        snapped[axis, 2] += round(border) - border
    return snapped.astype(matrix.dtype)


def _border(scale: float, shift: float, pixel: int) -> float:
    """Where the near border of a pixel falls, counted in borders of the output. Matrices work on pixel centres."""
    return float(scale * (pixel - 0.5) + shift + 0.5)


@dataclass(frozen=True, slots=True)
class Span:
    """One axis of a resize: pixels [start, end) of the tile, scaled, lie from `place` on; `mirrored` first and last."""

    start: int
    end: int
    place: int
    scale: float
    mirrored: bool

    @property
    def length(self) -> int:
        """Pixels in the output."""
        return round((self.end - self.start) * self.scale)


Plan = tuple[Span, Span]  # x, y


def plan_resize(image: Array, matrix: Array, size_wh: tuple[int, int]) -> Plan | None:
    """How to show a tile (h, w, C) through an upright matrix, or None if none of its borders falls between pixels."""
    x = _plan_axis(image.shape[1], matrix[0, 0], matrix[0, 2], size_wh[0])
    y = _plan_axis(image.shape[0], matrix[1, 1], matrix[1, 2], size_wh[1])
    return None if x is None or y is None else (x, y)


def _plan_axis(size: int, scale: float, shift: float, out_size: int) -> Span | None:
    near, far = _border(scale, shift, 0), _border(scale, shift, size)
    if abs(near - round(near)) < TOLERANCE:
        place = round(near)
        needed = min(size, max(math.ceil((out_size - place) / scale) + 1, 0))  # beyond, the output ends
        return Span(0, needed, place, scale, mirrored=False)
    if abs(far - round(far)) < TOLERANCE:
        end = round(far)
        needed = min(size, max(math.ceil(end / scale) + 1, 0))
        return Span(size - needed, size, end - round(needed * scale), scale, mirrored=True)
    return None


def place_resized(out: Array, image: Array, plan: Plan) -> None:
    """Put a tile into an output (H, W, C), in place."""
    x, y = plan
    left, top = max(x.place, 0), max(y.place, 0)
    right, bottom = min(x.place + x.length, out.shape[1]), min(y.place + y.length, out.shape[0])
    if left >= right or top >= bottom:
        return
    source = image[y.start : y.end, x.start : x.end]
    mirror = {(False, False): None, (True, False): 1, (False, True): 0, (True, True): -1}[x.mirrored, y.mirrored]
    if mirror is not None:
        source = cv2.flip(source, mirror)
    # With factors instead of a size, OpenCV takes exactly these factors.
    resized = cv2.resize(source, None, fx=x.scale, fy=y.scale, interpolation=cv2.INTER_LINEAR)
    if mirror is not None:
        resized = cv2.flip(resized, mirror)
    resized = resized.reshape(y.length, x.length, -1)
    out[top:bottom, left:right] = resized[top - y.place : bottom - y.place, left - x.place : right - x.place]
