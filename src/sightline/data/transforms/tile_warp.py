"""One tile, through any matrix, into an output where its neighbours may be already.

Interpolation is linear in the picture, so a canvas of several tiles, seen through a matrix, is grey + Σ (warped tile −
grey), on the seams as well.
"""

from __future__ import annotations

import cv2
import numpy as np

from sightline.data.transforms.letterbox import GREY
from sightline.structures.sample import Array

Rect = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels, the far sides not included


def add_warped(out: Array, image: Array, matrix: Array) -> None:
    """Add one tile to the output, in place.

    Args:
        out: (H, W, C) uint8, grey where nothing lies yet; its C may be 4 for images of 3.
        image: (h, w, C) uint8.
        matrix: (3, 3) from pixels of the image to pixels of the output.
    """
    touched = _touched(image, matrix, out.shape[1], out.shape[0])
    if touched is None:
        return
    x1, y1, x2, y2 = touched
    source, to_patch = _crop(image, shift_matrix(-x1, -y1) @ matrix, x2 - x1, y2 - y1)
    if not source.size:  # a turned tile may miss the output that the rectangle around it meets
        return
    # Around the part that shows this tile only, pixels may be blends with grey or with a neighbour already there.
    left, top, right, bottom = _whole(image, matrix, touched)
    rims = [(x1, y1, x2, top), (x1, top, left, bottom), (right, top, x2, bottom), (x1, bottom, x2, y2)]
    neighbours = [(rim, _part(out, rim).copy()) for rim in rims if rim[0] < rim[2] and rim[1] < rim[3]]
    _warp_into(_part(out, touched), source, to_patch)
    for rim, before in neighbours:
        here = _part(out, rim)
        here[...] = cv2.addWeighted(before, 1, here, 1, -GREY).reshape(here.shape)


def _part(image: Array, rect: Rect) -> Array:
    x1, y1, x2, y2 = rect
    return image[y1:y2, x1:x2]


def _touched(image: Array, matrix: Array, width: int, height: int) -> Rect | None:
    """The part of the output that shows anything of the tile; None if nothing does."""
    tile_height, tile_width = image.shape[:2]
    # An output pixel between the last row of a tile and the next one still shows half of that row.
    corners = np.array([[-1, tile_width, tile_width, -1], [-1, -1, tile_height, tile_height], [1, 1, 1, 1]], np.float64)
    x, y, depth = matrix @ corners
    if depth.min() <= 0:  # the horizon crosses the tile, and its corners say nothing about what is visible
        return 0, 0, width, height
    x, y = x / depth, y / depth
    x1, y1 = max(int(np.floor(x.min())), 0), max(int(np.floor(y.min())), 0)
    x2, y2 = min(int(np.ceil(x.max())) + 1, width), min(int(np.ceil(y.max())) + 1, height)
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _whole(image: Array, matrix: Array, touched: Rect) -> Rect:
    """The part that shows nothing but the tile, where it is a rectangle: without rotation, shear and perspective."""
    x1, y1, x2, y2 = touched
    if matrix[0, 1] or matrix[1, 0] or matrix[2, 0] or matrix[2, 1] or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        return x1, y1, x1, y2  # empty: treat all of it as rim
    height, width = image.shape[:2]
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
    return image[y1:y2, x1:x2], matrix @ shift_matrix(x1, y1)


def _warp_into(out: Array, image: Array, matrix: Array) -> None:
    """Overwrite `out`, (H, W, C), with an image (h, w, C or 3 for 4) seen through a matrix (3, 3), grey around it."""
    size_wh = out.shape[1], out.shape[0]
    if image.shape[2] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)
    border = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (GREY,) * 4}
    if matrix[2, 0] or matrix[2, 1]:
        warped = cv2.warpPerspective(image, matrix, size_wh, dst=out, flags=cv2.INTER_LINEAR, **border)
    else:
        warped = cv2.warpAffine(image, matrix[:2] / matrix[2, 2], size_wh, dst=out, flags=cv2.INTER_LINEAR, **border)
    if not np.shares_memory(warped, out):  # OpenCV could not write into this layout
        out[...] = warped.reshape(out.shape)


def shift_matrix(x: float, y: float) -> Array:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)
