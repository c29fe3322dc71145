"""The confusion matrix, counted by hand."""

from __future__ import annotations

import numpy as np

from sightline.metrics.confusion import ConfusionMatrix


def test_right_confused_missed_and_invented():
    matrix = ConfusionMatrix({0: "cat", 1: "dog"})
    overlap = np.array([[0.9, 0.0, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 0.3]])
    matrix.update(overlap, np.array([0.9, 0.8, 0.7]), np.array([0, 0, 1]), np.array([0, 1, 1]))
    # cat found, dog taken for cat, dog missed, a dog invented
    assert matrix.matrix.tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]
    right, wrong = matrix.tp_fp()
    assert (right.tolist(), wrong.tolist()) == ([1, 0], [1, 1])


def test_unsure_predictions_do_not_count():
    matrix = ConfusionMatrix({0: "cat"})
    matrix.update(np.zeros((0, 2)), np.array([0.25, 0.26]), np.zeros(2), np.zeros(0), conf=0.25)
    assert matrix.matrix.tolist() == [[0, 1], [0, 0]]


def test_columns_are_shares():
    matrix = ConfusionMatrix({0: "a b", 1: "a-b"})
    matrix.matrix[:] = [[3, 0, 1], [1, 0, 0], [0, 2, 0]]
    np.testing.assert_allclose(matrix.normalized().sum(axis=0), 1.0)
    assert list(matrix.summary()[0]) == ["Predicted", "a_b", "a_b_1", "background"]
