"""Augmentations that a user hands in: `augmentations=[…]`.

Two kinds, mixed as you like, in the order given, after the mosaic and before the colour jitter:

* an object with `decide(sample, rng)`, see `base.Augmentation`. It may move boxes, polygons and keypoints, and all
  its chance comes from `rng`.
* a function from image to image, (H, W, C) uint8 BGR of the same shape, that moves nothing, such as
  `lambda image: cv2.blur(image, (3, 3))`. The global generators of `random` and `numpy` are seeded around the call and
  put back, so that even chance drawn from them does not depend on workers.

Worker processes that start afresh (Windows, macOS) need both to be picklable: classes and functions of a module, not
lambdas.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sightline.data.transforms.base import Transform
from sightline.errors import DataError, SettingTypeError
from sightline.structures.sample import Array, Labels, Sample


@dataclass(frozen=True, slots=True)
class ImageFunction(Transform):
    """A user's function on one image, with the seed for what it draws."""

    function: Callable[[Array], Array]
    seed: int

    def image(self, image: Array) -> Array:
        before = random.getstate(), np.random.get_state()
        random.seed(self.seed)
        np.random.seed(self.seed)
        try:
            out = self.function(image.copy())  # it may write into what it gets
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
        if not isinstance(out, np.ndarray) or out.shape != image.shape or out.dtype != np.uint8:
            found = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
            raise DataError(
                f"The augmentation {_name(self.function)} returned {found}; a plain function must return an image like "
                f"the one it got, uint8 {image.shape}. To change the shape or move boxes, write a class with "
                "decide(sample, rng); docs/augmentation.md shows how."
            )
        return np.ascontiguousarray(out)


@dataclass(frozen=True, slots=True)
class UserAugmentations:
    """What `augmentations=[…]` held."""

    items: tuple[Any, ...] = ()

    @classmethod
    def of(cls, items: Sequence[Any] | None) -> UserAugmentations:
        """Checks that each can be used.

        Raises:
            SettingTypeError: an item neither has `decide` nor can be called.
        """
        for item in items or ():
            if not callable(item) and not hasattr(item, "decide"):
                raise SettingTypeError(
                    f"augmentations={item!r}: each item must be a function from image to image, or an object with "
                    "decide(sample, rng) that returns a transform or None."
                )
        return cls(tuple(items or ()))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        for item in self.items:
            if hasattr(item, "decide"):
                transform = item.decide(sample, rng)
            else:
                transform = ImageFunction(item, int(rng.integers(2**32)))
            if transform is not None:
                sample = _checked(transform(sample), item)
        return sample


def _checked(sample: Sample, item: Any) -> Sample:
    """Objects a user's transform pushed out of the image are cut, and dropped when nothing is left."""
    if not isinstance(sample, Sample):
        raise DataError(
            f"The transform that {_name(item)}.decide returned gave {type(sample).__name__} instead of a Sample. "
            "Derive it from sightline.data.transforms.base.Transform."
        )
    labels: Labels = sample.labels.clipped(sample.width, sample.height)
    size = labels.boxes[:, 2:] - labels.boxes[:, :2]
    return sample.with_(labels=labels.select((size > 0).all(axis=1)) if len(labels) else labels)


def _name(item: Any) -> str:
    return getattr(item, "__name__", type(item).__name__)
