"""Warping tiles straight into the output equals drawing the canvas first and warping that."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sightline.data.transforms.canvas import Canvas, Tile
from sightline.data.transforms.letterbox import GREY
from sightline.data.transforms.tile_resize import snap


def _picture(height: int, width: int, seed: int, channels: int = 3) -> np.ndarray:
    """Smooth but not flat, so that a wrong place shows and rounding of the interpolation does not."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, channels), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels)


def _mosaic(side: int, x: int, y: int, channels: int = 3) -> Canvas:
    """Four pictures around (x, y); one corner of the canvas stays grey."""
    sizes = [(y, x), (y - 10, 2 * side - x), (2 * side - y, x - 20), (side // 2, side // 2)]
    places = [(0, 0), (x, 10), (20, y), (x, y)]
    tiles = [
        Tile(_picture(*size, seed, channels), *place)
        for seed, (size, place) in enumerate(zip(sizes, places, strict=True))
    ]
    return Canvas(2 * side, 2 * side, tiles)


def _matrix(side: int, *, degrees=0.0, scale=1.0, shear=0.0, tilt=(0.0, 0.0), shift=(0.0, 0.0)) -> np.ndarray:
    centre = np.array([[1, 0, -side], [0, 1, -side], [0, 0, 1.0]])
    perspective = np.array([[1, 0, 0], [0, 1, 0], [*tilt, 1.0]])
    a = np.radians(degrees)
    turn = np.array([[np.cos(a) * scale, np.sin(a) * scale, 0], [-np.sin(a) * scale, np.cos(a) * scale, 0], [0, 0, 1]])
    slant = np.array([[1, shear, 0], [0, 1, 0], [0, 0, 1.0]])
    move = np.array([[1, 0, side / 2 + shift[0]], [0, 1, side / 2 + shift[1]], [0, 0, 1.0]])
    return (move @ slant @ turn @ perspective @ centre).astype(np.float32)


def _slow(canvas: Canvas, matrix: np.ndarray, side: int) -> np.ndarray:
    picture = canvas.draw()
    border = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (GREY,) * 4}
    out = cv2.warpPerspective(picture, matrix.astype(np.float64), (side, side), flags=cv2.INTER_LINEAR, **border)
    return out.reshape(side, side, picture.shape[2])


VIEWS = {
    "plain": {},
    "zoomed_in": {"scale": 1.47, "shift": (9.3, -6.7)},
    "zoomed_out": {"scale": 0.52, "shift": (-3.1, 8.8)},
    "turned": {"degrees": 31.0, "scale": 0.8},
    "upside_down": {"degrees": 180.0},
    "slanted": {"shear": 0.3, "degrees": -12.0, "shift": (5.5, 2.25)},
    "tilted": {"tilt": (8e-4, -5e-4), "degrees": 10.0},
    "far_away": {"shift": (10_000.0, 0.0)},
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_equal_to_drawing_the_canvas_first(view, channels):
    side = 160
    for x, y in ((100, 90), (160, 160), (221, 187)):
        canvas = _mosaic(side, x, y, channels)
        matrix = _matrix(side, **VIEWS[view])
        difference = np.abs(canvas.warp(matrix, (side, side)).astype(int) - _slow(canvas, matrix, side))
        # Everywhere, also on seams: up to four rounded parts are added there.
        assert difference.max() <= 2
        assert (difference > 1).mean() < 1e-3


def test_many_turned_views_of_small_tiles():
    """Tiles that only just reach the output, or only the rectangle around them does."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        canvas = _mosaic(64, int(rng.integers(32, 96)), int(rng.integers(32, 96)))
        matrix = _matrix(64, degrees=rng.uniform(-180, 180), scale=rng.uniform(0.5, 3), shift=rng.uniform(-60, 60, 2))
        difference = np.abs(canvas.warp(matrix, (64, 64)).astype(int) - _slow(canvas, matrix, 64))
        assert difference.max() <= 3


def test_the_horizon_may_cross_a_tile():
    canvas = Canvas(100, 100, [Tile(_picture(100, 100, 0))])
    matrix = np.array([[1, 0, 0], [0, 1, 0], [0.02, 0, -1]], np.float64)  # depth 0 at x = 50
    out = canvas.warp(matrix, (80, 80))
    assert out.shape == (80, 80, 3)


def test_a_seam_of_white_stays_white():
    white = np.full((50, 50, 3), 255, np.uint8)
    canvas = Canvas(100, 100, [Tile(white, 0, 0), Tile(white, 50, 0), Tile(white, 0, 50), Tile(white, 50, 50)])
    for scale, shift in ((1.37, 3.21), (0.93, 0.5), (1.0, 0.25)):
        matrix = np.array([[scale, 0, -20 * scale + shift], [0, scale, -20 * scale + shift], [0, 0, 1]])
        assert (canvas.warp(matrix, (50, 50)) >= 254).all()


def test_any_number_of_channels():
    image = _picture(40, 50, 3, channels=4)
    seven = np.concatenate([image, image[..., :3]], axis=2)
    out = Canvas(40, 50, [Tile(seven)]).warp(np.eye(3), (50, 40))
    np.testing.assert_array_equal(out, seven)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_snapped_upright_views_are_resized_and_still_equal(channels, monkeypatch):
    """The fast way: the same picture as the slow one, but for the seams, where it shows the nearer tile alone."""
    monkeypatch.setattr("sightline.data.transforms.canvas.add_warped", None)  # not to be used here
    side = 160
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, y = (int(value) for value in rng.uniform(side / 2, 3 * side / 2, 2))
        canvas = _mosaic(side, x, y, channels)
        free = _matrix(side, scale=rng.uniform(0.4, 1.9), shift=rng.uniform(-30, 30, 2))
        matrix = snap(free, (x, y))
        assert np.abs(matrix - free).max() <= 0.5 + 1e-4
        difference = np.abs(canvas.warp(matrix, (side, side)).astype(int) - _slow(canvas, matrix, side)).max(axis=2)
        scale, seams = matrix[0, 0], np.zeros((side, side), bool)
        for tile in canvas.tiles:
            height, width = tile.image.shape[:2]
            for axis, start, size in ((0, tile.x, width), (1, tile.y, height)):
                for border in (start, start + size):
                    place = scale * (border - 0.5) + matrix[axis, 2] + 0.5
                    low, high = max(int(place - scale - 2), 0), max(int(place + scale + 2), 0)
                    seams[(slice(None), slice(low, high)) if axis == 0 else slice(low, high)] = True
        assert difference[~seams].max(initial=0) <= 2
        assert (~seams).mean() > 0.7


def test_a_turned_view_is_not_moved():
    matrix = _matrix(100, degrees=3)
    assert snap(matrix, (7, 9)) is matrix
