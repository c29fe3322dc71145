"""What a learning-rate range test has seen, and what follows from it. Numbers in, numbers out.

Source of the test: Smith, Cyclical Learning Rates for Training Neural Networks, arXiv:1506.01186, section 3.3. The two
values that are read off its curve (steepest descent, and the end of the descent) are those of Howard and Gugger,
fastai, arXiv:2002.04688. That the loss is that of the same few batches all along, and that the rate is suggested at
which the bottom of the curve begins, are ours (docs/decisions/0181 and 0196). The curve is seen through the robust
local lines of Cleveland, Robustly Weighted Regression and Smoothing Scatterplots, JASA 74 (1979), section 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

WIDTH = 0.3  # decades: standard deviation of the window through which the curve is seen
ROBUST_PASSES, OUTLYING = 3, 6.0  # Cleveland's: fits after the first; medians of the deviation at which a step counts 0
TRUSTED = 0.775  # the share of the variance of normal noise that is seen under the weights that follow from these
CERTAIN = 3.0  # standard errors that the loss must have fallen by to have fallen
RAN_AWAY = 0.5  # of the loss of the beginning, above the lowest: what is seen after that is not the same network's
LOW = 0.1  # of the fall, above the lowest: the bottom is often flat, and its lowest place then an accident
FEWEST = 10  # steps, below which no window has enough of them


@dataclass(frozen=True)
class Smoothed:
    """The curve without its noise, at every rate that was tried.

    Attributes:
        value: (N,) local fit.
        slope: (N,) its change for every decade of the learning rate.
        error: (N,) standard error of the value.
        noise: (N,) standard deviation of single steps around the fit, as it is near that rate, but for outliers.
    """

    value: Numbers
    slope: Numbers
    error: Numbers
    noise: Numbers


@dataclass(frozen=True)
class Reading:
    """Rates read off a curve, in units of lr0.

    Attributes:
        steepest: where the loss fell fastest; None where it did not fall by more than noise.
        bottom: the lowest at which the smoothed loss was low, with nine tenths of the fall behind it: the suggestion;
            None as above.
        limit: the highest at which the smoothed loss was still low, just before it rises or runs away; None as above.
        diverged: where it ran away; None where it did not within the range.
        fall: how far the smoothed loss was below that of the beginning, at its lowest.
        noise: standard deviation of single steps there.
    """

    steepest: float | None
    bottom: float | None
    limit: float | None
    diverged: float | None
    fall: float
    noise: float

    @property
    def suggestion(self) -> float | None:
        """The lr0 to train with."""
        return self.bottom


def smooth(rates: Numbers, values: Numbers, *, width: float = WIDTH) -> Smoothed:
    """Straight lines fitted at every rate, by least squares with Gaussian weights over the logarithm of the rate.

    A line, and not an average, because an average lags where the curve is steep and bends at both ends. The fit is made
    again with less weight on the steps that lie far from it: with large rates single steps miss by as much as the whole
    descent, and the next ones are back on the curve.

    Args:
        rates: (N,) ascending, above 0.
        values: (N,) finite.
        width: standard deviation of the weights, in decades.
    """
    x = np.log10(rates)
    distance = x[None, :] - x[:, None]  # (N, N) decades from the place of the row
    near = np.exp(-0.5 * (distance / width) ** 2)
    near /= near.sum(axis=1, keepdims=True)
    trust = np.ones(len(x))
    for _ in range(ROBUST_PASSES):
        to_value, _, _ = _fit(distance, near * trust)
        deviation = np.abs(values - to_value @ values)
        usual = np.maximum(_medians(deviation, near), np.finfo(float).tiny)
        trust = (1 - np.clip(deviation / OUTLYING / usual, 0, 1) ** 2) ** 2
    to_value, to_slope, weights = _fit(distance, near * trust)
    value, slope = to_value @ values, to_slope @ values
    noise = np.sqrt(weights @ (values - value) ** 2 / TRUSTED)
    return Smoothed(value, slope, np.sqrt(to_value**2 @ noise**2), noise)


def _fit(distance: Numbers, weights: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """(N, N) each: what makes the value and the slope of every line, as sums over what was seen; and the weights with
    a sum of 1 a row."""
    weights = weights / weights.sum(axis=1, keepdims=True)
    centre = (weights * distance).sum(axis=1, keepdims=True)
    to_slope = weights * (distance - centre) / (weights * (distance - centre) ** 2).sum(axis=1, keepdims=True)
    return weights - centre * to_slope, to_slope, weights


def _medians(values: Numbers, weights: Numbers) -> Numbers:
    """(N,) the median of `values` (N,) under the weights of every row (N, N), which sum up to 1."""
    order = values.argsort()
    half = (weights[:, order].cumsum(axis=1) >= 0.5).argmax(axis=1)
    return values[order][half]


def has_run_away(loss: float, lowest: float, beginning: float) -> bool:
    """Whether a loss is no number, or so far above the lowest before it that it will not come back."""
    return not loss <= lowest + RAN_AWAY * abs(beginning)


def read(rates: Numbers, losses: Numbers, beginning: float) -> Reading:
    """What a curve says.

    Args:
        rates: (N,) ascending.
        losses: (N,) after a step with that rate. The test ends where they run away, so that only the last may have.
        beginning: the loss before the first step.
    """
    x, change = calm(rates, losses, beginning)
    diverged = float(rates[len(x)]) if len(x) < len(rates) else None
    if len(x) < FEWEST:
        return Reading(None, None, None, diverged, math.nan, math.nan)
    curve = smooth(x, change)
    lowest = int(curve.value.argmin())
    fall, noise = -float(curve.value[lowest]), float(curve.noise[lowest])
    if fall <= CERTAIN * curve.error[lowest]:
        return Reading(None, None, None, diverged, fall, noise)
    steepest = int(curve.slope[: lowest + 1].argmin())
    low = x[curve.value <= (LOW - 1) * fall]
    return Reading(float(x[steepest]), float(low[0]), float(low[-1]), diverged, fall, noise)


def calm(rates: Numbers, losses: Numbers, beginning: float) -> tuple[Numbers, Numbers]:
    """Rates before the loss ran away, and by how much it had changed there."""
    lowest = beginning
    for end, loss in enumerate(losses):
        if has_run_away(loss, lowest, beginning):
            return rates[:end], losses[:end] - beginning
        lowest = min(lowest, loss)
    return rates, losses - beginning
