"""A large picture that is never drawn: tiles on a grey canvas, looked at through a matrix.

A mosaic is twice as wide and high as the network's input, and the affine step then shows a part of it. Instead of
drawing the mosaic and warping it, each tile goes straight into the part of the output that it covers: by a resize where
the view is upright and the tiles' borders fall between pixels (`tile_resize`), else by a warp (`tile_warp`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sightline.data.transforms.letterbox import GREY
from sightline.data.transforms.tile_resize import is_upright, place_resized, plan_resize
from sightline.data.transforms.tile_warp import add_warped, shift_matrix
from sightline.structures.sample import Array


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
        matrix = matrix.astype(np.float64)
        if self.channels > 4:  # the most that OpenCV warps at once
            parts = [self._channels(i, i + 4).warp(matrix, size_wh) for i in range(0, self.channels, 4)]
            return np.concatenate(parts, axis=2)
        resized = self._resize(matrix, size_wh)
        return self._warp(matrix, size_wh) if resized is None else resized

    def _resize(self, matrix: Array, size_wh: tuple[int, int]) -> Array | None:
        if not is_upright(matrix):
            return None
        plans = [plan_resize(tile.image, matrix @ shift_matrix(tile.x, tile.y), size_wh) for tile in self.tiles]
        if None in plans:
            return None
        out = np.full((size_wh[1], size_wh[0], self.channels), GREY, np.uint8)
        for tile, plan in zip(self.tiles, plans, strict=True):
            if plan is not None:
                place_resized(out, tile.image, plan)
        return out

    def _warp(self, matrix: Array, size_wh: tuple[int, int]) -> Array:
        # OpenCV warps four channels twice as fast as three.
        out = np.full((size_wh[1], size_wh[0], 4 if self.channels == 3 else self.channels), GREY, np.uint8)
        for tile in self.tiles:
            add_warped(out, tile.image, matrix @ shift_matrix(tile.x, tile.y))
        return cv2.cvtColor(out, cv2.COLOR_BGRA2BGR) if self.channels == 3 else out

    def _channels(self, first: int, last: int) -> Canvas:
        tiles = [Tile(tile.image[..., first:last], tile.x, tile.y) for tile in self.tiles]
        return Canvas(self.height, self.width, tiles)
