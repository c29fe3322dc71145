"""The noise scale of gradients that were made to have one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sightline.train.noise_scale import noise_scale, parts_of


def gradients(rng: np.random.Generator, *, steps: int, pieces: int, images: int, truth: np.ndarray, sigma: float):
    """(steps, pieces, D) mean gradients of pieces of so many images, each image's being the truth plus noise."""
    shape = (steps, pieces, images, len(truth))
    return (truth + sigma * rng.standard_normal(shape)).mean(axis=2)


def squares(pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (pieces**2).sum(-1).mean(1), (pieces.mean(1) ** 2).sum(-1)


@pytest.mark.parametrize(("pieces", "images"), [(2, 8), (4, 4), (7, 3)])
def test_it_is_the_ratio_that_the_gradients_were_made_with(pieces: int, images: int):
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(50)
    sigma = 3.0
    expected = 50 * sigma**2 / (truth**2).sum()
    drawn = gradients(rng, steps=2000, pieces=pieces, images=images, truth=truth, sigma=sigma)
    found = noise_scale(*squares(drawn), images=images, pieces=pieces)
    assert found.images == pytest.approx(expected, rel=0.05)
    assert found.low < found.images < found.high
    assert found.steps == 2000


def test_the_parts_are_unbiased():
    rng = np.random.default_rng(1)
    truth = rng.standard_normal(20)
    drawn = gradients(rng, steps=4000, pieces=4, images=2, truth=truth, sigma=2.0)
    gradient, noise = parts_of(*squares(drawn), images=2, pieces=4)
    assert gradient.mean() == pytest.approx((truth**2).sum(), rel=0.03)
    assert noise.mean() == pytest.approx(20 * 4.0, rel=0.03)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    truth = rng.standard_normal(50)
    expected = 50 * 4.0 / (truth**2).sum()
    held = 0
    for _ in range(200):
        drawn = gradients(rng, steps=20, pieces=4, images=4, truth=truth, sigma=2.0)
        found = noise_scale(*squares(drawn), images=4, pieces=4)
        held += found.low <= expected <= found.high
    assert 0.65 <= held / 200 <= 0.9  # 80%, less a little for the bootstrap of 20 steps


def test_a_gradient_hidden_in_its_noise_is_said():
    rng = np.random.default_rng(3)
    drawn = gradients(rng, steps=20, pieces=4, images=4, truth=np.zeros(50), sigma=2.0)
    found = noise_scale(*squares(drawn), images=4, pieces=4)
    assert math.isinf(found.high)
    assert "∞" in found.words() or "hidden" in found.words()


def test_steps_that_are_not_finite_do_not_count():
    rng = np.random.default_rng(4)
    drawn = gradients(rng, steps=30, pieces=4, images=4, truth=np.ones(50), sigma=2.0)
    piece, mean = squares(drawn)
    whole = noise_scale(piece[5:], mean[5:], images=4, pieces=4)
    piece[:3], mean[3:5] = np.inf, np.nan
    assert noise_scale(piece, mean, images=4, pieces=4) == whole
    few = noise_scale(piece[:8], mean[:8], images=4, pieces=4)
    assert math.isnan(few.images)
    assert few.words() == "not known: only 3 steps had finite gradients"
