"""The gradient noise scale: how many images a step can average over before more of them stop paying.

The gradient of a batch is that of all data plus noise, whose square falls as 1 / images. Their ratio is a number of
images, B_simple = tr(Σ) / |G|²: far below it twice the images make a step worth twice as much, far above it they hardly
change the step (McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", section 2.2 and appendix A.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
RESAMPLES = 400
FEWEST = 5  # steps, below which nothing is said


@dataclass(frozen=True)
class NoiseScale:
    """What steps have shown.

    Attributes:
        images: tr(Σ) / |G|²; infinite where the gradient cannot be told from its noise, NaN where there were too few
            steps.
        low, high: between which it lies in 80% of resamplings of the steps.
        steps: it was taken from.
    """

    images: float
    low: float
    high: float
    steps: int

    def words(self) -> str:
        if math.isnan(self.images):
            return f"not known: only {self.steps} steps had finite gradients"
        if math.isinf(self.images):
            return f"above {self.low:.0f} images: the gradient is hidden in its noise" if self.low else "not measurable"
        high = "∞" if math.isinf(self.high) else f"{self.high:.0f}"
        return f"{self.images:.0f} images ({self.low:.0f} to {high})"


def parts_of(piece_square: Numbers, mean_square: Numbers, *, images: float, pieces: int) -> tuple[Numbers, Numbers]:
    """Unbiased estimates of |G|² and tr(Σ) from one step whose images were taken in equal pieces.

    Args:
        piece_square: (N,) mean over a step's pieces of the squared norm of a piece's gradient.
        mean_square: (N,) squared norm of the mean of those gradients.
        images: of a piece.
        pieces: of a step, at least 2.

    Returns:
        (N,) |G|² and (N,) tr(Σ) for one image; a single step's |G|² may be negative.
    """
    gradient = (pieces * mean_square - piece_square) / (pieces - 1)
    noise = (piece_square - mean_square) * images * pieces / (pieces - 1)
    return gradient, noise


def noise_scale(piece_square: Numbers, mean_square: Numbers, *, images: float, pieces: int) -> NoiseScale:
    """Of several steps: the ratio of the means, since the mean of ratios would be biased. Arguments as `parts_of`."""
    finite = np.isfinite(piece_square) & np.isfinite(mean_square)
    gradient, noise = parts_of(piece_square[finite], mean_square[finite], images=images, pieces=pieces)
    steps = len(gradient)
    if steps < FEWEST:
        return NoiseScale(math.nan, math.nan, math.nan, steps)
    drawn = np.random.default_rng(0).integers(steps, size=(RESAMPLES, steps))
    ratios = [_ratio(gradient[rows], noise[rows]) for rows in drawn]
    low, high = (float(np.quantile(ratios, share, method="nearest")) for share in (0.1, 0.9))
    return NoiseScale(_ratio(gradient, noise), low, high, steps)


def _ratio(gradient: Numbers, noise: Numbers) -> float:
    mean = float(gradient.mean())
    return max(float(noise.mean()), 0.0) / mean if mean > 0 else math.inf
