"""Put an image into a frame of another shape: scale, then a grey border."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sightline.data.transforms.base import Transform
from sightline.ops.letterbox import LetterboxGeometry, letterbox_geometry
from sightline.structures.sample import Array, Sample

GREY = 114  # value of every border, for networks trained elsewhere expect it


def letterbox_image(image: Array, geometry: LetterboxGeometry) -> Array:
    """(H, W, C) uint8 → the framed image. One that already fills its frame is returned as it is, not copied."""
    width, height = geometry.new_wh
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, -1)
    if not any(geometry.pad):
        return image
    left, top, _, _ = geometry.pad
    framed = np.full((*geometry.out_hw, image.shape[2]), GREY, np.uint8)
    framed[top : top + height, left : left + width] = image
    return framed


@dataclass(frozen=True, slots=True)
class Letterboxed(Transform):
    """An image of the geometry's source shape, framed."""

    geometry: LetterboxGeometry

    def image(self, image: Array) -> Array:
        return letterbox_image(image, self.geometry)

    def boxes(self, boxes: Array) -> Array:
        return self.geometry.boxes(boxes)

    def points(self, points: Array) -> Array:
        return self.geometry.points(points)

    def __call__(self, sample: Sample) -> Sample:
        # The gains so far, from the file to this image, are carried on.
        ratio_pad = self.geometry.ratio_pad(sample.ratio_pad[0])
        return sample.with_(image=self.image(sample.image), labels=self.labels(sample.labels), ratio_pad=ratio_pad)


def letterbox(sample: Sample, target_hw: tuple[int, int], *, scaleup: bool = False) -> Sample:
    """The sample centred in a frame of (height, width), as validation sees it; enlarged only if `scaleup`."""
    geometry = letterbox_geometry((sample.height, sample.width), target_hw, scaleup=scaleup)
    return Letterboxed(geometry)(sample)
