"""What is recommended, against every possibility tried one by one."""

from __future__ import annotations

import math

import pytest

from sightline.train.batch_choice import Measured, choose, relative_time, scaled_rate


def sizes(*, per_image: float, fixed: float, step: float, fits: int = 10**9) -> list[Measured]:
    """A device whose pass takes `fixed` seconds and `per_image` for each image."""
    return [Measured(2**k, fixed + per_image * 2**k, step, 2**k, fits=2**k <= fits) for k in range(9)]


@pytest.mark.parametrize("noise", [4.0, 60.0, 1000.0, 30_000.0])
@pytest.mark.parametrize("step", [0.001, 0.3])
def test_no_other_way_is_much_faster(noise: float, step: float):
    measured = sizes(per_image=0.01, fixed=0.05, step=step)
    choice = choose(measured, noise, images=10**6, epochs=100)
    assert choice is not None
    fastest = min(
        (1 + noise / (size.batch * many)) * (many * size.pass_seconds + size.step_seconds)
        for size in measured
        for many in range(1, 65)
        if size.batch >= 8
    )
    assert choice.seconds <= 1.05 * fastest


def test_noisier_gradients_want_more_images_behind_a_step():
    measured = sizes(per_image=0.01, fixed=0.05, step=0.02)
    chosen = [choose(measured, noise, images=10**6, epochs=100) for noise in (10.0, 100.0, 1000.0, 10_000.0)]
    images = [choice.images for choice in chosen if choice is not None]
    assert images == sorted(images)
    assert images[-1] > 4 * images[0]


def test_a_costly_optimizer_is_spread_over_several_batches():
    cheap = choose(sizes(per_image=0.01, fixed=0, step=0.0001), 2000.0, images=10**6, epochs=100)
    costly = choose(sizes(per_image=0.01, fixed=0, step=2.0), 2000.0, images=10**6, epochs=100)
    assert cheap is not None
    assert costly is not None
    assert costly.images > cheap.images


def test_bounds():
    measured = sizes(per_image=0.01, fixed=0.5, step=0.1, fits=32)
    choice = choose(measured, 10_000.0, images=10**6, epochs=100)
    assert choice is not None
    assert choice.batch <= 32  # the memory
    small = choose(measured, 10_000.0, images=200, epochs=10)
    assert small is not None
    assert small.batch * small.accumulate <= max(200 * 10 / 200, small.batch)  # two hundred steps, if batches allow
    quiet = choose(measured, 0.5, images=10**6, epochs=100)
    assert quiet is not None
    assert quiet.batch >= 8  # BatchNorm
    assert choose([Measured(1, math.nan, math.nan, math.inf, fits=False)], 5.0, images=10, epochs=1) is None
    tight = choose(sizes(per_image=0.01, fixed=0.5, step=0.1, fits=4), 100.0, images=10**6, epochs=100)
    assert tight is not None
    assert tight.batch == 4


@pytest.mark.parametrize("noise", [math.nan, math.inf])
def test_without_a_noise_scale_throughput_decides(noise: float):
    measured = sizes(per_image=0.01, fixed=0.05, step=0.0)
    choice = choose(measured, noise, images=10**6, epochs=100)
    assert choice is not None
    best = max(size.images_per_second for size in measured)
    assert choice.accumulate == 1
    (chosen,) = [size for size in measured if size.batch == choice.batch]
    assert chosen.images_per_second >= best / 1.05
    assert all(size.images_per_second < best / 1.05 for size in measured if size.batch < choice.batch)


def test_the_rate_follows_the_images_below_the_noise_scale_and_stays_above_it():
    far_below = scaled_rate(0.01, before=8, after=16, noise=1e6, optimizer="SGD")
    far_above = scaled_rate(0.01, before=1000, after=2000, noise=1.0, optimizer="SGD")
    assert far_below == pytest.approx(0.02, rel=1e-3)
    assert far_above == pytest.approx(0.01, rel=1e-3)
    assert scaled_rate(0.01, before=8, after=32, noise=1e6, optimizer="AdamW") == pytest.approx(0.02, rel=1e-3)
    assert scaled_rate(0.01, before=8, after=32, noise=math.nan, optimizer="SGD") == pytest.approx(0.04)
    there = scaled_rate(0.01, before=16, after=64, noise=100.0, optimizer="MuSGD")
    assert scaled_rate(there, before=64, after=16, noise=100.0, optimizer="MuSGD") == pytest.approx(0.01)


def test_time_is_that_of_the_formula():
    size = Measured(16, 0.5, 0.1, 0, fits=True)
    assert relative_time(size, 4, 64.0) == pytest.approx((1 + 64 / 64) * (4 * 0.5 + 0.1))
