"""Is one recipe better than another, or is the difference what seeds alone make? Plain numbers in, a verdict out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

# How often two equal recipes may be called different. 0.05 would be at the promise of "19 of 20 times" with nothing
# left for scores that are not normally distributed; 0.01 needs a difference of 4 standard deviations at 5 runs a side.
ALPHA = 0.02
POWER = 0.8  # a difference that would be seen in 4 of 5 such comparisons is one that these runs can show

SAME, BETTER, WORSE, UNKNOWN = "same", "better", "worse", "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How `b` stands to `a`.

    Attributes:
        outcome: of `b`: "better", "worse", "same" (nothing that these runs can show) or "unknown" (too few runs).
        difference: mean of b less mean of a, in the metric's own unit.
        margin: the difference is known as ± this, at the confidence 1 - alpha; NaN where it cannot be known.
        p: how often equal recipes would differ as much or more; NaN where it cannot be known.
        visible: the smallest true difference that so many runs of this spread would mostly (4 of 5 times) show.
        runs: of a and of b.
        alpha: how often equal recipes are called different.
        reason: why the outcome is "unknown", else empty.
    """

    outcome: str
    difference: float
    margin: float
    p: float
    visible: float
    runs: tuple[int, int]
    alpha: float
    reason: str = ""

    def line(self, a: str, b: str, *, digits: int = 3) -> str:
        """The verdict in words, with the names of the two."""
        counts = f"{self.runs[0]} and {self.runs[1]} runs"
        if self.outcome == UNKNOWN:
            shown = "" if math.isnan(self.difference) else f" ({b} - {a}: {self.difference:+.{digits}f})"
            return f"{self.reason}: cannot tell{shown}"
        size = f"{self.difference:+.{digits}f} ± {self.margin:.{digits}f}"
        if self.outcome == SAME:
            unseen = f"; a true difference below {self.visible:.{digits}f} would mostly stay unseen with {counts}"
            return f"difference within noise: {b} - {a} = {size} (p = {self.p:.2g}){unseen}"
        return f"{b} is {self.outcome}: {size} (p = {self.p:.2g}, {counts})"


def judge(a: Sequence[float], b: Sequence[float], *, higher_is_better: bool = True, alpha: float = ALPHA) -> Verdict:
    """Compare what independent runs of two recipes came to.

    Welch's t-test: it does not ask for equal spread on both sides. Where one side is a single run, the spread of the
    other side is taken for both (Student's test with one group of size 1).

    Assumptions: the runs are independent (different seeds; a seed that is on both sides does no harm, it makes the
    verdict more careful), their number was fixed before anybody looked, and means of so many scores are about
    normally distributed. Scores with outliers or a tail make it more careful, not less. A verdict is about these data
    and this length of training; it knows nothing of another validation set.

    Args:
        a: one finite number a run, such as mAP50-95 at the end; b: the same of the other recipe.
        higher_is_better: False for losses.
        alpha: how often equal recipes may be called different; divide it by the number of comparisons.

    Source: Welch, The generalization of "Student's" problem when several different population variances are involved,
    Biometrika 34 (1947).
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("A verdict needs finite numbers. Leave out, and report, the runs that have none.")
    runs = (len(first), len(second))
    difference = float(second.mean() - first.mean()) if min(runs) else math.nan

    def unknown(reason: str) -> Verdict:
        return Verdict(UNKNOWN, difference, math.nan, math.nan, math.nan, runs, alpha, reason)

    if not min(runs):
        return unknown("no run on one side")
    if max(runs) == 1:
        return unknown("one run a side")
    variance, freedom = _of_difference(first, second)
    if variance == 0:
        if not (first.any() or second.any()):
            return unknown("0 in every run, so none has come far enough to compare")
        if difference == 0:
            return Verdict(SAME, 0.0, 0.0, 1.0, 0.0, runs, alpha)
        return unknown("the runs of each side agree to the last digit, so the spread of seeds is not known")
    error = math.sqrt(variance)
    critical = float(stdtrit(freedom, 1 - alpha / 2))
    p = 2 * float(stdtr(freedom, -abs(difference) / error))
    gain = difference if higher_is_better else -difference
    outcome = SAME if p >= alpha else BETTER if gain > 0 else WORSE
    visible = (critical + float(stdtrit(freedom, POWER))) * error
    return Verdict(outcome, difference, critical * error, p, visible, runs, alpha)


def spread(values: Sequence[float]) -> float:
    """Standard deviation over runs (n - 1 in the denominator); NaN for fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _of_difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Variance of the difference of the means, and its degrees of freedom."""
    if min(len(a), len(b)) == 1:
        many = a if len(a) > 1 else b
        return float(many.var(ddof=1)) * (1 + 1 / len(many)), float(len(many) - 1)
    parts = [float(side.var(ddof=1)) / len(side) for side in (a, b)]
    total = sum(parts)
    if total == 0:
        return 0.0, 1.0
    shares = zip(parts, (a, b), strict=True)
    return total, total**2 / sum(part**2 / (len(side) - 1) for part, side in shares)
