"""Rotate, zoom, shear, shift and tilt a picture into the network's square."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sightline.data.transforms.base import Transform
from sightline.data.transforms.canvas import Canvas, Tile
from sightline.data.transforms.polygons import clamp_to_boxes, least_visible, polygon_boxes_in_frame
from sightline.data.transforms.scene import Scene
from sightline.data.transforms.tile_resize import snap
from sightline.structures.sample import Array, Labels, Sample


def affine_matrix(
    shape_hw: tuple[int, int],
    size_wh: tuple[int, int],
    *,
    perspective_xy: tuple[float, float] = (0.0, 0.0),
    degrees: float = 0.0,
    scale: float = 1.0,
    shear_xy: tuple[float, float] = (0.0, 0.0),
    translate_xy: tuple[float, float] = (0.5, 0.5),
) -> Array:
    """(3, 3) float32 from pixels of a picture to pixels of the output.

    In this order: the picture's centre goes to the origin, perspective, rotation (counter-clockwise on the screen) with
    zoom, shear (degrees), and a shift by `translate_xy`, in shares of the output; (0.5, 0.5) puts centre on centre.
    """
    (height, width), (out_width, out_height) = shape_hw, size_wh
    centre = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, 1, 0], [*perspective_xy, 1]])
    cosine, sine = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    turn = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    tan_x, tan_y = np.tan(np.radians(shear_xy))
    slant = np.array([[1, tan_x, 0], [tan_y, 1, 0], [0, 0, 1]])
    shift = np.array([[1, 0, translate_xy[0] * out_width], [0, 1, translate_xy[1] * out_height], [0, 0, 1]])
    return (shift @ slant @ turn @ tilt @ centre).astype(np.float32)


def survives(before: Array, after: Array, *, min_area_ratio: float | Array) -> Array:
    """Which objects are still worth learning after they were moved and cut, (N,) bool.

    Args:
        before: (N, 4) xyxy, uncut, at the new scale.
        after: (N, 4) xyxy, cut by the frame.
        min_area_ratio: share of the area that must be left, the same for all or (N,).
    """
    old, new = before[:, 2:] - before[:, :2], after[:, 2:] - after[:, :2]
    ratio = new.prod(axis=1) / (old.prod(axis=1) + 1e-16)
    with np.errstate(divide="ignore", invalid="ignore"):
        aspect = np.maximum(new[:, 0] / new[:, 1], new[:, 1] / new[:, 0])
    keep: Array = (new > 2).all(axis=1) & (ratio > min_area_ratio) & (aspect < 100)  # 2 px, 100:1
    return keep


@dataclass(frozen=True, slots=True)
class Affine(Transform):
    """A picture seen through a matrix, in an output of `size_wh`.

    Objects that leave the output, or of which too little is left (`survives`), are dropped.

    Attributes:
        matrix: (3, 3) from pixels of the picture to pixels of the output.
        size_wh: (width, height) of the output, pixels.
        scale: the zoom in the matrix, for the area that an object should have.
    """

    matrix: Array = field(repr=False)
    size_wh: tuple[int, int]
    scale: float = 1.0

    def image(self, image: Array) -> Array:
        height, width = image.shape[:2]
        return Canvas(height, width, [Tile(image)]).warp(self.matrix, self.size_wh)

    def points(self, points: Array) -> Array:
        matrix = self.matrix
        moved = points @ matrix[:2, :2].T + matrix[:2, 2]
        if matrix[2, 0] or matrix[2, 1]:
            moved = moved / (points @ matrix[2, :2] + matrix[2, 2])[:, None]
        return moved.astype(np.float32)

    def boxes(self, boxes: Array) -> Array:
        """(N, 4) xyxy → the upright boxes around the four moved corners, not clipped."""
        corners = self.points(boxes[:, [0, 1, 2, 3, 0, 3, 2, 1]].reshape(-1, 2)).reshape(-1, 4, 2)
        return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)

    def labels(self, labels: Labels) -> Labels:
        if not len(labels):
            return labels
        width, height = self.size_wh
        moved = labels.moved(self.boxes, self.points)
        if moved.polygons:
            boxes = polygon_boxes_in_frame(moved.polygons, width, height)
            moved = Labels(boxes, moved.classes, clamp_to_boxes(moved.polygons, boxes), moved.keypoints)
        if moved.keypoints is not None:
            moved = Labels(moved.boxes, moved.classes, moved.polygons, hide_outside(moved.keypoints, width, height))
        clipped = moved.clipped(width, height)
        keep = survives(labels.boxes * self.scale, clipped.boxes, min_area_ratio=least_visible(labels))
        return clipped.select(keep)

    def show(self, scene: Scene) -> Sample:
        """The scene as this output shows it."""
        image = scene.warp(self.matrix, self.size_wh)
        size_hw = self.size_wh[1], self.size_wh[0]
        return scene.base.with_(image=image, labels=self.labels(scene.labels), resized_shape=size_hw)


@dataclass(frozen=True, slots=True)
class RandomAffine:
    """Where the output looks: each number drawn evenly from its range.

    Attributes:
        degrees: rotation, ±.
        translate: shift of the centre, ± as a share of the output.
        scale: zoom 1 ± this, or a pair (lowest, highest).
        shear: ± degrees, x and y apart.
        perspective: ± tilt, x and y apart; useful up to 0.001.
    """

    degrees: float = 0.0
    translate: float = 0.1
    scale: float | tuple[float, float] = 0.5
    shear: float = 0.0
    perspective: float = 0.0

    def decide(self, scene: Scene, rng: np.random.Generator, *, size_wh: tuple[int, int]) -> Affine:
        scales = self.scale if isinstance(self.scale, tuple) else (1 - self.scale, 1 + self.scale)
        tilt_x, tilt_y = rng.uniform(-self.perspective, self.perspective, 2)
        degrees = rng.uniform(-self.degrees, self.degrees)
        scale = float(rng.uniform(*scales))
        shear_x, shear_y = rng.uniform(-self.shear, self.shear, 2)
        x, y = rng.uniform(0.5 - self.translate, 0.5 + self.translate, 2)
        matrix = affine_matrix(
            (scene.height, scene.width),
            size_wh,
            perspective_xy=(tilt_x, tilt_y),
            degrees=degrees,
            scale=scale,
            shear_xy=(shear_x, shear_y),
            translate_xy=(x, y),
        )
        # The shift is random anyway; half a pixel less or more of it makes an upright view three times as fast.
        return Affine(snap(matrix, scene.corner_xy), size_wh, scale)


def hide_outside(keypoints: Array, width: int, height: int) -> Array:
    """(N, K, 3), with visibility 0 where a point has left the frame."""
    x, y = keypoints[..., 0], keypoints[..., 1]
    outside = (x < 0) | (y < 0) | (x > width) | (y > height)
    hidden = keypoints.copy()
    hidden[outside, 2] = 0
    return hidden
