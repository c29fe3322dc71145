"""Counts of one image, and names that stay apart."""

from __future__ import annotations

import pytest

from sightline.metrics.image_metrics import counts_to_metrics, distinct_names


def test_ratios():
    numbers = counts_to_metrics(2, 3, 4)
    assert numbers == pytest.approx({"precision": 2 / 3, "recall": 0.5, "f1": 4 / 7, "tp": 2, "fp": 1, "fn": 2})


@pytest.mark.parametrize(("predictions", "targets", "value"), [(0, 0, 1.0), (3, 0, 0.0), (0, 3, 0.0)])
def test_empty_sides(predictions: int, targets: int, value: float):
    numbers = counts_to_metrics(0, predictions, targets)
    assert numbers["precision"] == numbers["recall"] == numbers["f1"] == value


def test_as_many_folders_as_needed():
    paths = ["/d/x/a/1.jpg", "/d/y/a/1.jpg", "/d/y/b/1.jpg", "/d/y/b/2.jpg", "/d/y/b/2.jpg"]
    assert distinct_names(paths) == ["x/a/1.jpg", "y/a/1.jpg", "b/1.jpg", "2.jpg", "2.jpg"]
    assert distinct_names([]) == []


def test_names_are_as_distinct_as_the_paths():
    paths = ["1.jpg", "a/1.jpg", "a/a/1.jpg", "/a/a/1.jpg"]
    assert len(set(distinct_names(paths))) == len(paths)
