"""Which batch, how many of them a step, and which learning rate: what follows from measurements, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Wu & He 2018, "Group Normalization", figure 1: below this BatchNorm's statistics are too noisy.
FEWEST_FOR_NORM = 8
SAME = 1.05  # so much slower is as fast: timings scatter, and the model is a model
MOST_BATCHES = 64  # behind a step
FEWEST_STEPS = 200  # of a run; with fewer no schedule can do its work
# Exponent of the rule for the learning rate. 1: gradient descent. 0.5: optimizers that divide by the size of the
# gradient (McCandlish et al. 2018, section 2.2 and appendix E; Malladi et al. 2022) or make it orthogonal.
BY_SIZE = {"SGD": 1.0}
OTHERS = 0.5


@dataclass(frozen=True)
class Measured:
    """One batch size.

    Attributes:
        batch: images.
        pass_seconds: forward and backward.
        step_seconds: of the optimizer, clipping and average.
        memory: bytes at the peak.
        fits: whether that is within the budget.
    """

    batch: int
    pass_seconds: float
    step_seconds: float
    memory: float
    fits: bool

    @property
    def images_per_second(self) -> float:
        return self.batch / (self.pass_seconds + self.step_seconds)


@dataclass(frozen=True)
class Choice:
    """What is recommended.

    Attributes:
        batch, accumulate: images at once, and batches behind a step.
        seconds: `relative_time`; NaN where it is not known.
        why: in words.
    """

    batch: int
    accumulate: int
    seconds: float
    why: str

    @property
    def images(self) -> int:
        return self.batch * self.accumulate


def relative_time(size: Measured, accumulate: int, noise: float) -> float:
    """Seconds to a given loss, in units of the fewest steps that could reach it.

    A run needs (1 + noise / images) times the fewest steps (McCandlish et al. 2018, equation 2.11), and each takes
    `accumulate` passes and one step of the optimizer.
    """
    images = size.batch * accumulate
    return (1 + noise / images) * (accumulate * size.pass_seconds + size.step_seconds)


def choose(sizes: Sequence[Measured], noise: float, *, images: int, epochs: int) -> Choice | None:
    """The batch and accumulation with the shortest time to a given loss; of equally fast ones the calmest.

    Args:
        noise: the noise scale in images; NaN or infinite: throughput alone decides.
        images: of an epoch.
        epochs: of the run.

    Returns:
        None where nothing fits.
    """
    usable = [size for size in sizes if size.fits]
    if not usable:
        return None
    usable = [size for size in usable if size.batch >= FEWEST_FOR_NORM] or usable[-1:]
    if not math.isfinite(noise):
        best = max(size.images_per_second for size in usable)
        size = next(size for size in usable if size.images_per_second * SAME >= best)
        return Choice(size.batch, 1, math.nan, "the smallest batch at full throughput; the noise scale is not known")
    most = images * epochs / FEWEST_STEPS  # images behind a step
    ways = [
        (relative_time(size, accumulate, noise), size, accumulate)
        for size in usable
        for accumulate in range(1, MOST_BATCHES + 1)
        if accumulate == 1 or size.batch * accumulate <= most
    ]
    fastest = min(time for time, _, _ in ways)
    alike = [way for way in ways if way[0] <= fastest * SAME]
    # More images behind a step make it calmer, at the same price; of the same number the one with the least memory.
    time, size, accumulate = max(alike, key=lambda way: (min(way[1].batch * way[2], max(noise, 1)), -way[1].batch))
    return Choice(
        size.batch, accumulate, time, "the shortest time to the same loss, by the noise scale and the timings"
    )


def scaled_rate(rate: float, *, before: int, after: int, noise: float, optimizer: str) -> float:
    """The learning rate for `after` images behind a step, where `rate` suits `before` of them.

    The best rate is proportional to 1 / (1 + noise / images): in proportion to the images far below the noise scale,
    and the same for any number far above it (McCandlish et al. 2018, equation 2.7). For an unknown noise scale the
    first is taken.
    """
    exponent = BY_SIZE.get(optimizer, OTHERS)
    if not math.isfinite(noise):
        return rate * (after / before) ** exponent
    return rate * ((1 + noise / before) / (1 + noise / after)) ** exponent
