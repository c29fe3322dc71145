"""A large picture that is never drawn: tiles on a grey canvas, looked at through a matrix.

A mosaic is twice as wide and high as the network's input, and the affine step then shows a part of it. Instead of
drawing the mosaic and warping it, each tile is warped straight into the part of the output that it covers.
Interpolation is linear in the picture, so the result is the same, also on the seams: grey + Σ (warped tile − grey).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sightline.data.transforms.letterbox import GREY
from sightline.structures.sample import Array

Rect = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels, the far sides not included


@dataclass(frozen=True, slots=True)
class Tile:
    """An image (h, w, C) uint8 whose upper left pixel lies at (x, y) of the canvas."""

    image: Array
    x: int = 0
    y: int = 0


@dataclass(frozen=True, slots=True)
class Canvas:
    """`height` × `width` pixels, grey where no tile lies. Tiles lie inside and do not overlap."""

    height: int
    width: int
    tiles: Sequence[Tile]

    @property
    def channels(self) -> int:
        return int(self.tiles[0].image.shape[2])

    def draw(self) -> Array:
        """(height, width, C): the whole picture."""
        picture = np.full((self.height, self.width, self.channels), GREY, np.uint8)
        for tile in self.tiles:
            height, width = tile.image.shape[:2]
            picture[tile.y : tile.y + height, tile.x : tile.x + width] = tile.image
        return picture

    def warp(self, matrix: Array, size_wh: tuple[int, int]) -> Array:
        """What an output of (width, height) shows when `matrix`, (3, 3), takes canvas pixels to output pixels.

        Bilinear; grey beyond the canvas. The matrix may contain perspective.
        """
        width, height = size_wh
        matrix = matrix.astype(np.float64)
        out = np.full((height, width, self.channels), GREY, np.uint8)
        for tile in self.tiles:
            _add_tile(out, tile, matrix @ _shift(tile.x, tile.y))
        return out


def _add_tile(out: Array, tile: Tile, matrix: Array) -> None:
    """Add one tile to the output, in place; `matrix` takes pixels of the tile to pixels of the output."""
    touched = _touched(tile, matrix, out.shape[1], out.shape[0])
    if touched is None:
        return
    x1, y1, x2, y2 = touched
    to_patch = _shift(-x1, -y1) @ matrix
    source, to_patch = _crop(tile.image, to_patch, x2 - x1, y2 - y1)
    if not source.size:  # a turned tile may miss the output that the rectangle around it meets
        return
    patch = warp_image(source, to_patch, (x2 - x1, y2 - y1))
    left, top, right, bottom = _whole(tile, matrix, touched)
    out[top:bottom, left:right] = patch[top - y1 : bottom - y1, left - x1 : right - x1]
    # Around it, pixels may be blends of this tile with grey or with a neighbour.
    for rim in ((x1, y1, x2, top), (x1, top, left, bottom), (right, top, x2, bottom), (x1, bottom, x2, y2)):
        if rim[0] < rim[2] and rim[1] < rim[3]:
            there = out[rim[1] : rim[3], rim[0] : rim[2]]
            here = patch[rim[1] - y1 : rim[3] - y1, rim[0] - x1 : rim[2] - x1]
            there[...] = cv2.addWeighted(there, 1, here, 1, -GREY).reshape(there.shape)


def _touched(tile: Tile, matrix: Array, width: int, height: int) -> Rect | None:
    """The part of the output that shows anything of the tile; None if nothing does."""
    tile_height, tile_width = tile.image.shape[:2]
    # An output pixel between the last row of a tile and the next one still shows half of that row.
    corners = np.array([[-1, tile_width, tile_width, -1], [-1, -1, tile_height, tile_height], [1, 1, 1, 1]], np.float64)
    x, y, depth = matrix @ corners
    if depth.min() <= 0:  # the horizon crosses the tile, and its corners say nothing about what is visible
        return 0, 0, width, height
    x, y = x / depth, y / depth
    x1, y1 = max(int(np.floor(x.min())), 0), max(int(np.floor(y.min())), 0)
    x2, y2 = min(int(np.ceil(x.max())) + 1, width), min(int(np.ceil(y.max())) + 1, height)
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _whole(tile: Tile, matrix: Array, touched: Rect) -> Rect:
    """The part that shows nothing but the tile, where it is a rectangle: without rotation, shear and perspective."""
    x1, y1, x2, y2 = touched
    if matrix[0, 1] or matrix[1, 0] or matrix[2, 0] or matrix[2, 1] or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        return x1, y1, x1, y2  # empty: treat all of it as rim
    height, width = tile.image.shape[:2]
    left, top = np.ceil(matrix[:2, 2]).astype(int) + 1  # one pixel for safety: OpenCV's arithmetic is fixed-point
    right, bottom = np.floor([width - 1, height - 1] * matrix[[0, 1], [0, 1]] + matrix[:2, 2]).astype(int) - 1
    left, top = min(max(int(left), x1), x2), min(max(int(top), y1), y2)
    return left, top, max(min(int(right), x2), left), max(min(int(bottom), y2), top)


def _crop(image: Array, matrix: Array, width: int, height: int) -> tuple[Array, Array]:
    """The part of an image that an output of this size shows, and the matrix from there."""
    if matrix[2, 0] or matrix[2, 1]:
        return image, matrix
    back = np.linalg.inv(matrix)
    x, y, _ = back @ np.array([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]], np.float64)
    x1, y1 = max(int(np.floor(x.min())) - 1, 0), max(int(np.floor(y.min())) - 1, 0)
    x2, y2 = max(int(np.ceil(x.max())) + 2, 0), max(int(np.ceil(y.max())) + 2, 0)
    return image[y1:y2, x1:x2], matrix @ _shift(x1, y1)


def warp_image(image: Array, matrix: Array, size_wh: tuple[int, int]) -> Array:
    """One image (h, w, C) through a matrix (3, 3), bilinear, with a grey border. → (height, width, C)."""
    channels = image.shape[2]
    if channels > 4:  # the most that OpenCV warps at once
        parts = [warp_image(image[..., i : i + 4], matrix, size_wh) for i in range(0, channels, 4)]
        return np.concatenate(parts, axis=2)
    if channels == 3:  # OpenCV warps four channels twice as fast as three
        image = cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)
    border = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (GREY,) * 4}
    if matrix[2, 0] or matrix[2, 1]:
        out = cv2.warpPerspective(image, matrix, size_wh, flags=cv2.INTER_LINEAR, **border)
    else:
        out = cv2.warpAffine(image, matrix[:2] / matrix[2, 2], size_wh, flags=cv2.INTER_LINEAR, **border)
    if channels == 3:
        out = cv2.cvtColor(out, cv2.COLOR_BGRA2BGR)
    return out.reshape(size_wh[1], size_wh[0], channels)


def _shift(x: float, y: float) -> Array:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)
