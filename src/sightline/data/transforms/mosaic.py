"""Several images side by side, so that a batch has more objects, smaller ones, and other surroundings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sightline.data.transforms.canvas import Canvas, Tile
from sightline.data.transforms.guests import EVEN, Guests
from sightline.data.transforms.polygons import outlines
from sightline.data.transforms.scene import Scene
from sightline.data.transforms.tile_warp import Rect
from sightline.structures.sample import Labels, Sample


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image lies on the canvas: its upper left pixel at (x, y), cut to `cell`, all in canvas pixels."""

    x: int
    y: int
    cell: Rect


def four_places(shapes_hw: Sequence[tuple[int, int]], size: int, centre_xy: tuple[int, int]) -> list[Place]:
    """Four images that touch the centre with their inner corners, on a canvas of 2 · size.

    Args:
        shapes_hw: of the images upper left, upper right, lower left and lower right.
        centre_xy: where they meet, canvas pixels.
    """
    x, y = centre_xy
    (h0, w0), (h1, _), (_, w2), _ = shapes_hw
    end = 2 * size
    return [
        Place(x - w0, y - h0, (0, 0, x, y)),
        Place(x, y - h1, (x, 0, end, y)),
        Place(x - w2, y, (0, y, x, end)),
        Place(x, y, (x, y, end, end)),
    ]


def nine_places(shapes_hw: Sequence[tuple[int, int]], size: int, centre_xy: tuple[int, int]) -> list[Place]:
    """One image in the middle and eight around it, on a canvas of 2 · size, of which the outer ones show a part.

    The sides of the middle image, made longer, cut the canvas into nine cells. Each outer image touches the middle one,
    or its corner, and is cut to its cell.

    Args:
        shapes_hw: of the images in the middle, above it, and on clockwise: upper right, right, …, upper left.
        centre_xy: of the middle image, canvas pixels.
    """
    height, width = shapes_hw[0]
    left, top = centre_xy[0] - width // 2, centre_xy[1] - height // 2
    right, bottom = left + width, top + height
    columns, rows = ((0, left), (left, right), (right, 2 * size)), ((0, top), (top, bottom), (bottom, 2 * size))
    around = [(1, 1), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0)]  # (row, column)
    places = []
    for (row, column), (h, w) in zip(around, shapes_hw, strict=True):
        x = left - w if column == 0 else columns[column][0]
        y = top - h if row == 0 else rows[row][0]
        places.append(Place(x, y, (columns[column][0], rows[row][0], columns[column][1], rows[row][1])))
    return places


@dataclass(frozen=True, slots=True)
class Mosaic:
    """The arrangement of an image and its guests on a canvas of 2 · size.

    Attributes:
        guests: numbers of the other images, 3 or 8 of them.
        centre_xy: where four images meet; the middle of the central one of nine. Canvas pixels.
        size: long side of the images, pixels.
    """

    guests: tuple[int, ...]
    centre_xy: tuple[int, int]
    size: int

    def arrange(self, samples: Sequence[Sample]) -> Scene:
        """The samples (first the one that was asked for, then the guests) as one scene."""
        places = four_places if len(samples) == 4 else nine_places
        canvas = 2 * self.size
        tiles, parts = [], []
        for sample, place in zip(
            samples, places([(s.height, s.width) for s in samples], self.size, self.centre_xy), strict=True
        ):
            x1, y1 = max(place.x, place.cell[0], 0), max(place.y, place.cell[1], 0)
            x2 = min(place.x + sample.width, place.cell[2], canvas)
            y2 = min(place.y + sample.height, place.cell[3], canvas)
            if x1 >= x2 or y1 >= y2:
                continue
            tiles.append(Tile(sample.image[y1 - place.y : y2 - place.y, x1 - place.x : x2 - place.x], x1, y1))
            parts.append(sample.labels.placed(place.x, place.y, x2, y2, x1, y1))
        if any(part.polygons for part in parts):  # files of boxes beside them must not cost them their outlines
            parts = [replace(part, polygons=outlines(part)) for part in parts]
        together = Labels.concatenate(parts)
        size = together.boxes[:, 2:] - together.boxes[:, :2]
        labels = together.select((size > 0).all(axis=1))
        x, y = self.centre_xy
        corner = (x, y) if len(samples) == 4 else (x - samples[0].width // 2, y - samples[0].height // 2)
        return Scene(samples[0], Canvas(canvas, canvas, tiles), labels, corner)


@dataclass(frozen=True, slots=True)
class RandomMosaic:
    """A mosaic with this probability, its guests drawn from the whole data set.

    Attributes:
        size: long side of the images, pixels.
        tiles: 4 or 9.
    """

    size: int
    tiles: int = 4
    probability: float = 1.0

    def decide(self, sample: Sample, rng: np.random.Generator, *, count: int, guests: Guests = EVEN) -> Mosaic | None:
        """`count` is the number of images to draw guests from, `guests` how."""
        if rng.random() >= self.probability:
            return None
        y, x = (int(value) for value in rng.uniform(self.size / 2, 3 * self.size / 2, 2))
        return Mosaic(tuple(guests.draw(rng, images=count, number=self.tiles - 1)), (x, y), self.size)
