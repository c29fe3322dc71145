"""The built-in data set with keypoints."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sightline.data import samples_pose
from sightline.data.obtain import built_in_folder
from sightline.data.samples import SIZE
from sightline.data.samples_pose import COUNTS, draw_scene
from sightline.data.spec import read_yaml

SCENES = [draw_scene("train", i) for i in range(24)] + [draw_scene("val", i) for i in range(8)]


def test_it_is_the_same_every_time():
    first, again = draw_scene("val", 3), draw_scene("val", 3)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.keypoints, again.keypoints)
    assert not np.array_equal(first.image, draw_scene("train", 3).image)


def test_what_is_promised():
    rows = np.concatenate([scene.rows for scene in SCENES])
    keypoints = np.concatenate([scene.keypoints for scene in SCENES])
    assert keypoints.shape == (len(rows), 5, 3)
    assert set(rows[:, 0]) == {0, 1}
    assert set(np.unique(keypoints[..., 2])) == {1, 2}
    assert 0.02 < (keypoints[..., 2] == 1).mean() < 0.2
    assert (keypoints[..., :2] >= 0).all()
    assert (keypoints[..., :2] <= 1).all()
    assert sum(len(scene.rows) == 0 for scene in SCENES) == 2  # every tenth image
    assert max(len(scene.rows) for scene in SCENES) <= 5


def test_keypoints_lie_on_the_border_of_their_box():
    """Of the whole figure: its box is that of what can be seen, and a hidden corner may lie outside."""
    compared = 0
    for scene in SCENES:
        for row, points in zip(scene.rows, scene.keypoints, strict=True):
            if (points[:, 2] == 1).any():
                continue
            low, high = (row[1:3] - row[3:5] / 2) * SIZE, (row[1:3] + row[3:5] / 2) * SIZE
            xy = points[:, :2] * SIZE
            assert (xy > low - 2).all()
            assert (xy < high + 2).all()
            # The outermost corners are keypoints, so they reach all sides (anti-aliased tips end a little earlier).
            np.testing.assert_allclose(xy.min(0), low, atol=5)
            np.testing.assert_allclose(xy.max(0), high, atol=5)
            compared += 1
    assert compared > 30


def test_right_and_left_are_as_seen_from_the_figure():
    for scene in SCENES:
        for points in scene.keypoints[..., :2]:
            top, upper_right, lower_right, lower_left, upper_left = points
            down = (lower_right + lower_left) / 2 - top
            for right, left in ((upper_right, upper_left), (lower_right, lower_left)):
                across = right - left
                assert down[0] * across[1] - down[1] * across[0] < 0  # y points down: right is against the clock


def test_a_mirrored_figure_is_a_figure_in_the_order_that_the_data_set_says():
    flip = read_yaml(built_in_folder() / "shapes-pose.yaml")["flip_idx"]
    for outline, points in zip(samples_pose.OUTLINES.values(), samples_pose.KEYPOINTS.values(), strict=True):
        corners = outline[points]
        np.testing.assert_allclose((corners * [-1, 1])[flip], corners)


def test_files(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(samples_pose, "COUNTS", {"train": 3, "val": 1})
    samples_pose.write_shapes(tmp_path)
    assert len(list((tmp_path / "images" / "train").iterdir())) == 3
    scene = draw_scene("train", 1)
    lines = (tmp_path / "labels" / "train" / "0001.txt").read_text().splitlines()
    values = np.array([[float(word) for word in line.split()] for line in lines])
    np.testing.assert_allclose(values, np.concatenate([scene.rows, scene.keypoints.reshape(-1, 15)], 1), atol=1e-6)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "images" / "train" / "0001.png")), scene.image)
    assert COUNTS == {"train": 240, "val": 60}
