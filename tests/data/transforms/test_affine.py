from __future__ import annotations

import numpy as np
import pytest

from sightline.data.transforms.affine import Affine, RandomAffine, affine_matrix, survives
from sightline.data.transforms.scene import Scene
from sightline.structures.sample import Labels, Sample


def _sample(boxes, height=100, width=100, **labels) -> Sample:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Sample(np.zeros((height, width, 3), np.uint8), Labels(boxes, np.zeros(len(boxes), np.float32), **labels))


def test_without_any_change_the_centre_stays_in_the_centre():
    matrix = affine_matrix((80, 120), (60, 60))
    assert (matrix @ [60, 40, 1])[:2].tolist() == [30, 30]


def test_pixels_and_boxes_move_together():
    """A bright rectangle is found again where its box says."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        image = np.zeros((200, 200, 3), np.uint8)
        image[70:120, 60:140] = 255
        sample = _sample([[60, 70, 140, 120]], 200, 200).with_(image=image)
        affine = RandomAffine(degrees=40, translate=0.1, scale=0.4, shear=10, perspective=3e-4)
        out = affine.decide(Scene.of(sample), rng, size_wh=(160, 160)).show(Scene.of(sample))
        ys, xs = np.nonzero(out.image[..., 0] > 128)
        assert xs.size
        found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        np.testing.assert_allclose(out.boxes[0], found, atol=2)


def test_an_outline_gives_a_tighter_box_than_corners():
    triangle = np.array([[50, 20], [80, 80], [20, 80]], np.float32)
    sample = _sample([[20, 20, 80, 80]], polygons=[triangle])
    affine = Affine(affine_matrix((100, 100), (100, 100), degrees=45), (100, 100))
    with_outline = affine.labels(sample.labels).boxes[0]
    without = affine.labels(Labels(sample.boxes, sample.classes)).boxes[0]
    assert (with_outline[2:] - with_outline[:2]).prod() < 0.8 * (without[2:] - without[:2]).prod()


def test_objects_that_leave_are_dropped_with_everything_they_have():
    keypoints = np.array([[[10, 10, 2]], [[90, 90, 2]]], np.float32)
    sample = _sample([[0, 0, 20, 20], [60, 60, 100, 100]], keypoints=keypoints)
    shifted = Affine(affine_matrix((100, 100), (100, 100), translate_xy=(0.2, 0.2)), (100, 100))
    out = shifted.labels(sample.labels)
    assert out.boxes.tolist() == [[30, 30, 70, 70]]
    assert out.keypoints.tolist() == [[[60, 60, 2]]]


def test_a_keypoint_outside_is_no_longer_visible():
    keypoints = np.array([[[5, 50, 2], [95, 50, 2]]], np.float32)
    sample = _sample([[0, 0, 100, 100]], keypoints=keypoints)
    out = Affine(affine_matrix((100, 100), (100, 100), scale=1.5), (100, 100), 1.5).labels(sample.labels)
    assert out.keypoints[0, :, 2].tolist() == [0, 0]
    assert out.keypoints[0, :, 0].tolist() == [0, 100]


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        ([0, 0, 10, 10], True),
        ([0, 0, 2, 10], False),  # 2 px is not enough
        ([0, 0, 3, 3], False),  # 9 of 100 square pixels are left
        ([0, 0, 0, 0], False),
    ],
)
def test_what_is_worth_learning(after, kept):
    before = np.array([[0, 0, 10, 10]], np.float32)
    assert survives(before, np.array([after], np.float32), min_area_ratio=0.1).tolist() == [kept]


def test_draws_stay_in_their_ranges_and_no_object_is_fine():
    rng = np.random.default_rng(0)
    affine = RandomAffine(degrees=0, translate=0.1, scale=(0.8, 1.1))
    scales = [affine.decide(Scene.of(_sample([])), rng, size_wh=(64, 64)).scale for _ in range(200)]
    assert 0.8 <= min(scales) < 0.85
    assert 1.05 < max(scales) <= 1.1
    out = affine.decide(Scene.of(_sample([])), rng, size_wh=(64, 48)).show(Scene.of(_sample([])))
    assert out.image.shape == (48, 64, 3)
    assert out.boxes.shape == (0, 4)
