"""AP on cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.metrics.average_precision import ap_per_class, compute_ap


def test_a_perfect_class_scores_0995():
    tp = np.ones((6, 10), dtype=bool)
    classes = np.array([0, 0, 0, 2, 2, 2])
    results = ap_per_class(tp, np.linspace(0.9, 0.4, 6), classes, classes)
    assert results.classes.tolist() == [0, 2]
    np.testing.assert_allclose(results.ap, 0.995)
    np.testing.assert_allclose([results.p, results.r], 1.0)


def test_order_of_the_predictions_does_not_matter():
    rng = np.random.default_rng(0)
    tp, conf = rng.random((50, 10)) < 0.5, rng.permutation(50) / 50
    predicted, true = rng.integers(0, 4, 50), rng.integers(0, 4, 30)
    first = ap_per_class(tp, conf, predicted, true)
    shuffled = rng.permutation(50)
    second = ap_per_class(tp[shuffled], conf[shuffled], predicted[shuffled], true)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_half_found_without_mistakes():
    # The curve falls to 0 at the last recall itself: grid points 0.00 … 0.49 are at 1, half of the first counts.
    ap, _, _ = compute_ap(np.array([0.25, 0.5]), np.array([1.0, 1.0]))
    assert ap == pytest.approx(0.495, abs=1e-12)


def test_predictions_of_a_class_nobody_labelled_change_nothing():
    tp = np.array([[True] * 10, [False] * 10])
    with_stranger = ap_per_class(tp, np.array([0.9, 0.99]), np.array([1, 7]), np.array([1]))
    alone = ap_per_class(tp[:1], np.array([0.9]), np.array([1]), np.array([1]))
    for a, b in zip(with_stranger, alone, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_wrong_prediction_below_all_right_ones_costs_no_ap():
    tp = np.array([[True] * 10, [False] * 10])
    results = ap_per_class(tp, np.array([0.9, 0.1]), np.zeros(2), np.zeros(1))
    np.testing.assert_allclose(results.ap, 0.995)
    tp = tp[::-1]  # now the wrong one comes first: precision is 1/2 everywhere
    results = ap_per_class(tp, np.array([0.9, 0.1]), np.zeros(2), np.zeros(1))
    np.testing.assert_allclose(results.ap, 0.4975, atol=3e-3)
