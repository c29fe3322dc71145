"""Matching against a slow version that follows the rule word by word."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.metrics.matching import IOU_THRESHOLDS, match_any_class, match_predictions


def slow_match(predicted: np.ndarray, true: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    right = np.zeros((len(predicted), len(IOU_THRESHOLDS)), dtype=bool)
    for k, threshold in enumerate(IOU_THRESHOLDS):
        free = set(range(len(true)))
        for p in range(len(predicted)):
            candidates = [t for t in sorted(free) if true[t] == predicted[p]]
            if not candidates:
                continue
            best = max(candidates, key=lambda t: (overlap[t, p], -t))
            if overlap[best, p] >= threshold:
                right[p, k] = True
                free.remove(best)
    return right


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_rule_word_by_word(seed: int):
    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(0, 2, 12), rng.integers(0, 2, 60)
    # Multiples of 0.05 land exactly on thresholds and tie.
    overlap = (rng.integers(6, 20, (12, 60)) * 0.05).astype(np.float32)
    np.testing.assert_array_equal(match_predictions(predicted, true, overlap), slow_match(predicted, true, overlap))


def test_an_object_is_found_once_by_the_first_prediction():
    overlap = np.array([[0.60, 0.90]], dtype=np.float32)
    right = match_predictions(np.array([0, 0]), np.array([0]), overlap)
    assert right[0].sum() == 3  # 0.50, 0.55, 0.60: used up there
    assert right[1].sum() == 6  # 0.65 … 0.90 are still free
    assert not (right[0] & right[1]).any()


@pytest.mark.parametrize(("predictions", "objects"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_match(predictions: int, objects: int):
    overlap = np.zeros((objects, predictions), dtype=np.float32)
    right = match_predictions(np.zeros(predictions), np.zeros(objects), overlap)
    assert right.shape == (predictions, 10)
    assert not right.any()


def test_a_loser_takes_the_next_best_object():
    overlap = np.array([[0.9, 0.8], [0.1, 0.6]])
    rows, columns = match_any_class(overlap, np.array([0.9, 0.5]), threshold=0.45)
    assert dict(zip(rows.tolist(), columns.tolist(), strict=True)) == {0: 0, 1: 1}


def test_the_better_score_chooses_first_whatever_the_order():
    overlap = np.array([[0.9, 0.5]])
    rows, _ = match_any_class(overlap, np.array([0.2, 0.7]), threshold=0.45)
    assert rows.tolist() == [1]
