from __future__ import annotations

import numpy as np

from sightline.structures.sample import Labels, Sample


def _labels(count: int = 3, *, polygons: bool = True, keypoints: bool = True, seed: int = 0) -> Labels:
    rng = np.random.default_rng(seed)
    boxes = np.sort(rng.uniform(0, 100, (count, 2, 2)), axis=1).reshape(count, 4).astype(np.float32)
    return Labels(
        boxes,
        np.arange(count, dtype=np.float32),
        [rng.uniform(0, 100, (3 + i, 2)).astype(np.float32) for i in range(count)] if polygons else None,
        rng.uniform(0, 100, (count, 2, 3)).astype(np.float32) if keypoints else None,
    )


def test_select_takes_all_parts_in_the_order_asked_for():
    labels = _labels()
    some = labels.select(np.array([2, 0]))
    assert some.classes.tolist() == [2, 0]
    assert [len(polygon) for polygon in some.polygons] == [5, 3]
    np.testing.assert_array_equal(some.keypoints, labels.keypoints[[2, 0]])
    assert labels.select(np.array([False, True, False])).classes.tolist() == [1]
    assert len(labels.select(np.zeros(3, bool))) == 0


def test_moving_keeps_polygons_apart_and_visibility():
    labels = _labels()
    moved = labels.shifted(10, -5)
    np.testing.assert_allclose(moved.boxes, labels.boxes + np.float32([10, -5, 10, -5]), rtol=1e-6)
    for before, after in zip(labels.polygons, moved.polygons, strict=True):
        np.testing.assert_allclose(after, before + np.float32([10, -5]), rtol=1e-6)
    np.testing.assert_allclose(moved.keypoints[..., :2], labels.keypoints[..., :2] + np.float32([10, -5]), rtol=1e-6)
    np.testing.assert_array_equal(moved.keypoints[..., 2], labels.keypoints[..., 2])


def test_clipping_to_a_frame_that_does_not_start_at_zero():
    labels = Labels(np.array([[-5, 10, 200, 90]], np.float32), np.zeros(1, np.float32))
    assert labels.clipped(100, 50, 20, 15).boxes.tolist() == [[20, 15, 100, 50]]


def test_everything_works_without_objects():
    empty = Labels.empty()
    for labels in (empty.shifted(1, 2), empty.clipped(5, 5), empty.select(np.zeros(0, bool)), Labels.concatenate([])):
        assert len(labels) == 0
        assert labels.boxes.shape == (0, 4)
        assert labels.boxes.dtype == np.float32


def test_concatenate_ignores_empty_parts_and_drops_what_some_lack():
    full, boxes_only = _labels(2), _labels(1, polygons=False, keypoints=False)
    both = Labels.concatenate([full, Labels.empty(), full])
    assert len(both) == 4
    assert len(both.polygons) == 4
    assert both.keypoints.shape == (4, 2, 3)
    mixed = Labels.concatenate([full, boxes_only])
    assert len(mixed) == 3
    assert mixed.polygons is None
    assert mixed.keypoints is None


def test_a_changed_copy_leaves_the_sample_alone():
    sample = Sample(np.zeros((4, 6, 3), np.uint8), path="a.jpg")
    other = sample.with_(image=np.ones((2, 2, 3), np.uint8))
    assert (sample.height, sample.width, sample.channels) == (4, 6, 3)
    assert (other.height, other.path) == (2, "a.jpg")


def test_placing_is_shifting_and_clipping():
    labels = _labels()
    placed, expected = labels.placed(10, -5, 70, 60, 20, 15), labels.shifted(10, -5).clipped(70, 60, 20, 15)
    np.testing.assert_array_equal(placed.boxes, expected.boxes)
    np.testing.assert_array_equal(placed.keypoints[..., :2], expected.keypoints[..., :2])
    assert all((a == b).all() for a, b in zip(placed.polygons, expected.polygons, strict=True))


def test_keypoints_that_a_frame_cuts_off_are_not_labelled_there():
    keypoints = np.array([[[30.0, 20, 2], [5, 20, 2], [30, 90, 1]]], np.float32)  # inside, left of it, below it
    labels = Labels(np.array([[5, 10, 40, 90]], np.float32), np.zeros(1, np.float32), keypoints=keypoints)
    placed = labels.placed(0, 0, 60, 60, 10, 0)
    assert placed.keypoints.tolist() == [[[30, 20, 2], [10, 20, 0], [30, 60, 0]]]
    assert labels.keypoints[0, :, 2].tolist() == [2, 2, 1]  # the sample itself is shared with other images
