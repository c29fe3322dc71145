from __future__ import annotations

import numpy as np
import pytest

from sightline.data.transforms.flip import FlipLeftRight, FlipUpDown, RandomFlipLeftRight, RandomFlipUpDown
from sightline.structures.sample import Labels, Sample


def test_a_box_goes_to_the_mirrored_side():
    boxes = np.array([[10.0, 5.0, 30.0, 25.0]], np.float32)
    assert FlipLeftRight(width=100).boxes(boxes).tolist() == [[70, 5, 90, 25]]
    assert FlipUpDown(height=50).boxes(boxes).tolist() == [[10, 25, 30, 45]]


@pytest.mark.parametrize("flip", [FlipLeftRight(60, (1, 0)), FlipUpDown(40, (1, 0))])
@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("channels", [1, 3])
def test_twice_is_nothing(flip, count, channels):
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.integers(0, 40, (count, 2, 2)), axis=1).reshape(count, 4).astype(np.float32)
    labels = Labels(
        boxes,
        np.zeros(count, np.float32),
        [rng.integers(0, 40, (4, 2)).astype(np.float32) for _ in range(count)],
        rng.integers(0, 40, (count, 2, 3)).astype(np.float32),
    )
    sample = Sample(rng.integers(0, 256, (40, 60, channels), dtype=np.uint8), labels)
    once, twice = flip(sample), flip(flip(sample))
    np.testing.assert_array_equal(twice.image, sample.image)
    np.testing.assert_array_equal(twice.boxes, boxes)
    np.testing.assert_array_equal(twice.keypoints, labels.keypoints)
    assert all((a == b).all() for a, b in zip(twice.polygons, labels.polygons, strict=True))
    assert not np.array_equal(once.image, sample.image)


def test_left_and_right_keypoints_change_places():
    keypoints = np.array([[[10, 5, 2], [20, 5, 1]]], np.float32)
    labels = Labels(np.zeros((1, 4), np.float32), np.zeros(1, np.float32), keypoints=keypoints)
    assert FlipLeftRight(100, (1, 0)).labels(labels).keypoints.tolist() == [[[80, 5, 1], [90, 5, 2]]]


def test_probability():
    rng = np.random.default_rng(0)
    sample = Sample(np.zeros((4, 8, 3), np.uint8))
    made = [RandomFlipLeftRight(0.3).decide(sample, rng) for _ in range(500)]
    assert 110 < sum(flip is not None for flip in made) < 190
    assert {flip.width for flip in made if flip} == {8}
    assert RandomFlipUpDown(0.0).decide(sample, rng) is None
    assert RandomFlipUpDown(1.0).decide(sample, rng).height == 4
