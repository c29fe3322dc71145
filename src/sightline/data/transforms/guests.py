"""Which other images come into a sample: guests of a mosaic, second images of MixUp, CutMix and copy-paste."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Guests:
    """Drawn from the whole data set (docs/decisions/0062), evenly or in proportion to weights.

    Attributes:
        cumulative: (n,) float64 running sum of the weights of the images; None: all are alike.
    """

    cumulative: np.ndarray | None = None

    @classmethod
    def weighted(cls, weights: np.ndarray) -> Guests:
        """`weights`: (n,) > 0, such as repeat factors."""
        return cls(np.cumsum(weights))

    def draw(self, rng: np.random.Generator, *, images: int, number: int) -> list[int]:
        """`number` image numbers below `images`; the same may come twice."""
        if self.cumulative is None:
            return rng.integers(images, size=number).tolist()
        places = rng.uniform(0, self.cumulative[-1], number)
        # The end itself can come up by rounding.
        return np.minimum(np.searchsorted(self.cumulative, places, side="right"), images - 1).tolist()


EVEN = Guests()
