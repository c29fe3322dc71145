"""The order of colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sightline.data.transforms.base import Transform
from sightline.structures.sample import Array, Sample


@dataclass(frozen=True, slots=True)
class SwapRedBlue(Transform):
    """Red and blue change places, so that a network meets images whose order somebody got wrong."""

    def image(self, image: Array) -> Array:
        return np.ascontiguousarray(image[..., ::-1]) if image.shape[2] == 3 else image


@dataclass(frozen=True, slots=True)
class RandomSwapRedBlue:
    probability: float = 0.0

    def decide(self, sample: Sample, rng: np.random.Generator) -> SwapRedBlue | None:
        return SwapRedBlue() if rng.random() < self.probability else None
