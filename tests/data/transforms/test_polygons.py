from __future__ import annotations

import cv2
import numpy as np

from sightline.data.transforms.affine import Affine, affine_matrix
from sightline.data.transforms.polygons import (
    box_polygons,
    fill_polygons,
    least_visible,
    polygon_boxes,
    polygon_boxes_in_frame,
)
from sightline.structures.sample import Labels


def test_box_in_a_frame_against_a_fine_raster():
    """Any outline, convex or not: fill it on a fine grid, cut the grid, look where anything is left."""
    rng = np.random.default_rng(0)
    fine, frame = 8, (40, 30)
    for _ in range(150):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
        radii = rng.uniform(4, 40, len(angles))[:, None]
        polygon = rng.uniform(-10, 50, 2) + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        grid = np.zeros((200 * fine, 200 * fine), np.uint8)
        cv2.fillPoly(grid, [np.rint((polygon + 80) * fine).astype(np.int32)], 1)
        ys, xs = np.nonzero(grid[80 * fine : (80 + frame[1]) * fine, 80 * fine : (80 + frame[0]) * fine])
        box = polygon_boxes_in_frame([polygon.astype(np.float32)], *frame)[0]
        if not len(xs):
            assert (box[2:] - box[:2]).max() < 1
            continue
        expected = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / fine
        # A needle thinner than the grid may show on one side only, so slack of one fine pixel times its length.
        np.testing.assert_allclose(box, expected, atol=1.0)


def test_an_outline_around_the_whole_frame_fills_it():
    around = np.array([[-10, -10], [100, -10], [100, 100], [-10, 100]], np.float32)
    assert polygon_boxes_in_frame([around], 30, 20).tolist() == [[0, 0, 30, 20]]


def test_outside_is_zero_and_inside_is_untouched():
    inside = np.array([[1, 2], [5, 2], [3, 9]], np.float32)
    outside = inside + 100
    assert polygon_boxes_in_frame([outside, inside], 30, 20).tolist() == [[0, 0, 0, 0], [1, 2, 5, 9]]
    assert polygon_boxes([]).shape == (0, 4)


def test_boxes_as_outlines_and_back():
    boxes = np.array([[1, 2, 5, 9], [0, 0, 3, 3]], np.float32)
    np.testing.assert_array_equal(polygon_boxes(box_polygons(boxes)), boxes)


def test_less_may_be_left_of_a_drawn_outline_than_of_a_box():
    boxes = np.array([[0, 0, 10, 10]] * 4, np.float32)
    square = box_polygons(boxes)[0]
    triangle, diamond = square[:3], np.array([[5, 0], [10, 5], [5, 10], [0, 5]], np.float32)
    labels = Labels(boxes, np.zeros(4, np.float32), [triangle, square[[2, 1, 0, 3]] + 1e-3, diamond, square[::-1]])
    assert least_visible(labels).tolist() == [0.01, 0.1, 0.01, 0.1]
    assert least_visible(Labels(boxes, np.zeros(4, np.float32))).tolist() == [0.1] * 4
    assert least_visible(Labels.empty()).tolist() == []


def test_the_corners_of_a_box_as_its_outline_give_the_same_box_under_any_turn():
    rng = np.random.default_rng(0)
    near = rng.uniform(30, 50, (20, 2))
    boxes = np.concatenate([near, near + rng.uniform(5, 20, (20, 2))], axis=1).astype(np.float32)
    for degrees in (0, 17, 90, 200):
        matrix = affine_matrix((100, 100), (100, 100), degrees=degrees, shear_xy=(5, -3), perspective_xy=(5e-4, 0))
        view, classes = Affine(matrix, (100, 100)), np.arange(20, dtype=np.float32)
        without, corners = (view.labels(Labels(boxes, classes, outline)) for outline in (None, box_polygons(boxes)))
        np.testing.assert_allclose(corners.boxes, without.boxes, atol=1e-4)
        assert len(without) == 20  # all in the frame, where the corners decide alone


def test_overlapping_outlines_are_both_filled():
    squares = box_polygons(np.array([[0, 0, 6, 6], [3, 3, 9, 9]], np.float32))
    mask = fill_polygons(squares, 12, 12)
    assert mask[4, 4] == 255
    assert mask[11, 11] == 0
