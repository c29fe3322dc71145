"""Mirror images."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sightline.data.transforms.base import Transform
from sightline.structures.sample import Array, Labels, Sample


@dataclass(frozen=True, slots=True)
class FlipLeftRight(Transform):
    """A mirror about the vertical axis of an image `width` pixels wide. Its own inverse.

    `flip_idx` names for each keypoint the one whose place it takes (left eye ↔ right eye).
    """

    width: int
    flip_idx: tuple[int, ...] | None = None

    def image(self, image: Array) -> Array:
        return cv2.flip(image, 1).reshape(image.shape)

    def boxes(self, boxes: Array) -> Array:
        x1, y1, x2, y2 = boxes.T
        return np.stack([self.width - x2, y1, self.width - x1, y2], axis=1)

    def points(self, points: Array) -> Array:
        return np.stack([self.width - points[:, 0], points[:, 1]], axis=1)

    def labels(self, labels: Labels) -> Labels:
        return _swap_keypoints(labels.moved(self.boxes, self.points), self.flip_idx)


@dataclass(frozen=True, slots=True)
class FlipUpDown(Transform):
    """A mirror about the horizontal axis of an image `height` pixels high. Its own inverse."""

    height: int
    flip_idx: tuple[int, ...] | None = None

    def image(self, image: Array) -> Array:
        return cv2.flip(image, 0).reshape(image.shape)

    def boxes(self, boxes: Array) -> Array:
        x1, y1, x2, y2 = boxes.T
        return np.stack([x1, self.height - y2, x2, self.height - y1], axis=1)

    def points(self, points: Array) -> Array:
        return np.stack([points[:, 0], self.height - points[:, 1]], axis=1)

    def labels(self, labels: Labels) -> Labels:
        return _swap_keypoints(labels.moved(self.boxes, self.points), self.flip_idx)


@dataclass(frozen=True, slots=True)
class RandomFlipLeftRight:
    probability: float = 0.5
    flip_idx: tuple[int, ...] | None = None

    def decide(self, sample: Sample, rng: np.random.Generator) -> FlipLeftRight | None:
        return FlipLeftRight(sample.width, self.flip_idx) if rng.random() < self.probability else None


@dataclass(frozen=True, slots=True)
class RandomFlipUpDown:
    probability: float = 0.0
    flip_idx: tuple[int, ...] | None = None

    def decide(self, sample: Sample, rng: np.random.Generator) -> FlipUpDown | None:
        return FlipUpDown(sample.height, self.flip_idx) if rng.random() < self.probability else None


def _swap_keypoints(labels: Labels, flip_idx: tuple[int, ...] | None) -> Labels:
    if labels.keypoints is None or flip_idx is None:
        return labels
    return Labels(labels.boxes, labels.classes, labels.polygons, labels.keypoints[:, list(flip_idx)])
