"""What is read off a curve: made curves whose landmarks are known, and descents that are computed step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sightline.train.lr_curve import CERTAIN, Reading, calm, has_run_away, read, smooth

RATES = np.geomspace(1e-6, 1.0, 100)


def fallen(middle: float, *, depth: float = 4.0, width: float = 0.3) -> np.ndarray:
    """A loss of 10 that falls by `depth` around `middle`: steepest there, by the symmetry of the logistic curve."""
    return 10 - depth / (1 + np.exp(-(np.log10(RATES) - math.log10(middle)) / width))


@pytest.mark.parametrize("middle", [1e-4, 1e-3, 1e-2])
def test_the_steepest_place_is_found_through_noise(middle: float):
    noise = np.random.default_rng(0).normal(0, 0.2, len(RATES))
    reading = read(RATES, fallen(middle) + noise, 10.0)
    assert reading.steepest == pytest.approx(middle, rel=0.6)
    assert reading.noise == pytest.approx(0.2, rel=0.5)
    assert reading.fall == pytest.approx(4.0, abs=0.3)
    assert reading.diverged is None


@pytest.mark.parametrize("start", [1e-5, 1e-4, 1e-3])
def test_the_bottom_begins_where_nine_tenths_of_a_slope_are_done(start: float):
    """A straight slope of two decades, then level ground."""
    slope = 10 - 4 * np.clip((np.log10(RATES) - math.log10(start)) / 2, 0, 1)
    reading = read(RATES, slope + np.random.default_rng(0).normal(0, 0.1, len(RATES)), 10.0)
    assert reading.suggestion == reading.bottom
    # Seen through the window the corner is round, and the lowest place of noise is below the ground: a little later.
    assert 0.9 < reading.bottom / (start * 10**1.8) < 2
    assert reading.limit == RATES[-1]


def test_the_limit_is_where_the_loss_turns_and_the_explosion_is_no_part_of_the_curve():
    losses = fallen(1e-3) + 3 * np.maximum(np.log10(RATES) + 1.5, 0) ** 2  # rises from 10^-1.5 on
    losses[90:] = [30.0, math.nan, *[1.0] * 8]  # what comes after it is another network: it learns to say nothing
    reading = read(RATES, losses, 10.0)
    assert reading.diverged == RATES[90]
    assert 10**-1.5 < reading.limit < 10**-0.8  # it has risen by a tenth of the fall at 10^-1.1
    assert reading.steepest == pytest.approx(1e-3, rel=0.3)
    assert len(calm(RATES, losses, 10.0)[0]) == 90


def test_noise_alone_is_no_descent():
    noise = [np.random.default_rng(seed).normal(0, 1, 100) for seed in range(40)]
    suggestions = [read(RATES, 10 + each, 10.0).suggestion for each in noise]
    assert sum(suggestion is not None for suggestion in suggestions) <= 4


@pytest.mark.parametrize("count", [1, 5])
def test_single_steps_that_miss_do_not_move_what_is_read_off(count: int):
    """As MuSGD's do on bccd at 320 px: from 6.4 to 9.6 and back, of a descent of 0.8; the next one was on the curve."""
    rng = np.random.default_rng(1)
    losses = fallen(1e-2, depth=0.8) + rng.normal(0, 0.03, len(RATES))
    missing = losses.copy()
    missing[rng.choice(np.arange(70, 95), count, replace=False)] += 3
    clean, reading = read(RATES, losses, 10.0), read(RATES, missing, 10.0)
    assert reading.suggestion == pytest.approx(clean.suggestion, rel=0.2)
    assert reading.steepest == pytest.approx(clean.steepest, rel=0.2)
    assert reading.fall == pytest.approx(clean.fall, rel=0.1)
    assert reading.noise == pytest.approx(0.03, rel=0.5)


def test_a_loss_that_only_rises_suggests_nothing():
    assert read(RATES, 10 + np.linspace(0, 2, 100), 10.0).suggestion is None


@pytest.mark.parametrize("losses", [[], [math.nan], [9.0] * 5])
def test_too_short_a_curve_suggests_nothing(losses: list[float]):
    reading = read(RATES[: len(losses)], np.array(losses), 10.0)
    assert reading.suggestion is None
    assert reading.diverged == (RATES[0] if losses and math.isnan(losses[0]) else None)


def test_what_counts_as_run_away():
    assert not any(has_run_away(loss, 10.0, 10.0) for loss in (9.0, 14.9))
    assert all(has_run_away(loss, 10.0, 10.0) for loss in (15.1, math.inf, math.nan))
    assert has_run_away(11.5, 6.0, 10.0)  # it had fallen to 6: all that was learnt is lost
    assert not has_run_away(-11.0, -10.0, -10.0)  # a loss of a user's own may be negative


def test_a_network_that_was_lost_does_not_come_back_with_a_lower_loss():
    """A detector that blew up learns to answer nothing at all, which costs less than any other answer."""
    curve = fallen(1e-3)
    lost = RATES > 10**-1.5
    curve[lost] = np.geomspace(13.0, 0.1, lost.sum())
    reading = read(RATES, curve, 10.0)
    assert reading.diverged == RATES[lost][0]
    assert reading.fall == pytest.approx(4.0, abs=0.2)
    assert reading.steepest == pytest.approx(1e-3, rel=0.2)


def test_a_straight_line_is_seen_as_it_is_at_both_ends_too():
    line = 3 - 2 * np.log10(RATES)
    curve = smooth(RATES, line)
    np.testing.assert_allclose(curve.value, line)
    np.testing.assert_allclose(curve.slope, -2)
    np.testing.assert_allclose(curve.noise, 0, atol=1e-9)


def test_the_standard_error_is_that_of_repeated_experiments():
    rng = np.random.default_rng(0)
    values = np.array([smooth(RATES, rng.normal(0, 0.5, len(RATES))).value[50] for _ in range(300)])
    error = smooth(RATES, rng.normal(0, 0.5, len(RATES))).error[50]
    assert values.std() == pytest.approx(error, rel=0.35)
    assert CERTAIN > 2


def test_the_noise_is_that_of_the_steps():
    """The fit takes a little of it: with 16 steps a decade about a tenth of the deviation."""
    rng = np.random.default_rng(0)
    found = [smooth(RATES, rng.normal(0, 0.5, len(RATES))).noise[50] for _ in range(300)]
    assert np.mean(found) == pytest.approx(0.5, rel=0.12)


def descent(curvatures: np.ndarray, scale: float = 1.0) -> Reading:
    """Stochastic gradient descent on ½ Σ h·w², with rates that grow as in the test; the loss after each step."""
    rng = np.random.default_rng(0)
    weights, losses = np.ones((100, len(curvatures))), []  # a hundred descents, for the mean of their losses
    for rate in RATES:
        gradient = scale * (curvatures * weights + rng.normal(0, 0.1 * curvatures, weights.shape))
        weights = weights - rate * gradient
        losses.append(scale * 0.5 * (curvatures * weights**2).sum() / len(weights))
    return read(RATES, np.array(losses), scale * 0.5 * curvatures.sum())


@pytest.mark.parametrize("curvature", [10.0, 100.0, 1000.0])
def test_on_a_parabola_the_best_rate_is_within_the_range_that_is_read_off(curvature: float):
    """A constant rate of 1/h is the best there is, 2/h the first that diverges: both by calculus."""
    reading = descent(np.array([curvature]))
    assert reading.suggestion < 1 / curvature < reading.limit < reading.diverged
    # A weight that is near its place needs steps to leave it, so that the end is seen a little later than it comes.
    assert 2 / curvature < reading.diverged < 4 / curvature
    assert reading.suggestion > 0.02 / curvature  # the rates before it have done a part of the work


def test_ten_times_the_loss_is_a_tenth_of_the_rate():
    curvatures = np.geomspace(1, 100, 20)
    plain, tenfold = descent(curvatures), descent(curvatures, scale=10.0)
    assert plain.suggestion / tenfold.suggestion == pytest.approx(10, rel=0.2)
    assert plain.limit / tenfold.limit == pytest.approx(10, rel=0.3)
