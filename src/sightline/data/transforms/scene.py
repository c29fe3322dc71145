"""What the affine step looks at: one image or a mosaic, with its objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sightline.data.transforms.canvas import Canvas, Tile
from sightline.data.transforms.polygons import fill_polygons
from sightline.structures.sample import Array, Labels, Sample


@dataclass(frozen=True, slots=True)
class Scene:
    """A canvas and the objects on it, in pixels of the canvas.

    Attributes:
        base: the sample that was asked for; the others in a mosaic are its guests.
        corner_xy: the canvas pixel in whose upper left corner tiles meet, or the first tile begins.
        pasted: outlines, each (P, 2), in which the mirrored canvas is seen instead (copy-paste).
    """

    base: Sample
    canvas: Canvas
    labels: Labels
    corner_xy: tuple[int, int] = (0, 0)
    pasted: Sequence[Array] = ()

    @classmethod
    def of(cls, sample: Sample) -> Scene:
        return cls(sample, Canvas(sample.height, sample.width, [Tile(sample.image)]), sample.labels)

    @property
    def height(self) -> int:
        return self.canvas.height

    @property
    def width(self) -> int:
        return self.canvas.width

    def with_pasted(self, outlines: Sequence[Array], labels: Labels) -> Scene:
        """With the mirror image inside these outlines, and the objects that came with it."""
        return replace(self, pasted=[*self.pasted, *outlines], labels=Labels.concatenate([self.labels, labels]))

    def warp(self, matrix: Array, size_wh: tuple[int, int]) -> Array:
        """(height, width, C) uint8: the picture through a (3, 3) matrix from canvas to output pixels."""
        image = self.canvas.warp(matrix, size_wh)
        if not self.pasted:
            return image
        # The mirror image is drawn at the output, too: one more warp, and no canvas.
        mirror = np.array([[-1, 0, self.width - 1], [0, 1, 0], [0, 0, 1]], np.float64)  # pixel centres
        mirrored = self.canvas.warp(matrix.astype(np.float64) @ mirror, size_wh)
        mask = fill_polygons([_project(outline, matrix) for outline in self.pasted], size_wh[1], size_wh[0])
        image[mask > 0] = mirrored[mask > 0]
        return image


def _project(points: Array, matrix: Array) -> Array:
    homogeneous = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ matrix.astype(np.float64).T
    projected: Array = homogeneous[:, :2] / homogeneous[:, 2:]
    return projected
