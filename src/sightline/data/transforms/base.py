"""What a transform is, and how it is applied to a sample.

A random transform is a small frozen class with `decide(sample, rng)`. It draws from `rng`, a generator that belongs to
this sample in this epoch, and returns either None (leave the sample alone) or a transform that is no longer random.
To write your own, see `Augmentation`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from sightline.structures.sample import Array, Labels, Sample


class Transform:
    """Something to do to one image and its objects; the same each time. Methods not overridden change nothing.

    A transform that moves pixels overrides `image`, `boxes` and `points`; one that only changes colours just `image`.
    The input must stay as it is: it may be shared with the image cache.
    """

    def image(self, image: Array) -> Array:
        """(H, W, C) uint8 → the same kind."""
        return image

    def boxes(self, boxes: Array) -> Array:
        """(N, 4) xyxy, pixels → the same."""
        return boxes

    def points(self, points: Array) -> Array:
        """(M, 2) x, y of polygons and keypoints, pixels → the same."""
        return points

    def labels(self, labels: Labels) -> Labels:
        """All objects; override it when objects can disappear."""
        return labels.moved(self.boxes, self.points)

    def __call__(self, sample: Sample) -> Sample:
        return sample.with_(image=self.image(sample.image), labels=self.labels(sample.labels))


class Augmentation(Protocol):
    """What `augmentations=[…]` accepts besides plain functions from image to image.

        @dataclass(frozen=True)
        class RandomGrey:
            probability: float = 0.1

            def decide(self, sample, rng):
                return Grey() if rng.random() < self.probability else None

    where `Grey` is a `Transform` whose `image` returns the picture in grey.
    """

    def decide(self, sample: Any, rng: np.random.Generator) -> Transform | None: ...
