"""Right, wrong and missed, sorted out and drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from sightline.validate.error_pictures import GAP, sort_out, write_error_picture

OVERLAP = np.array([[0.8, 0.7, 0.0, 0.0], [0.0, 0.0, 0.9, 0.0], [0.0, 0.0, 0.0, 0.6]])  # (T, P)
SCORES = np.array([0.9, 0.8, 0.7, 0.1])


def test_right_wrong_and_missed():
    predicted, true = np.array([0, 0, 1, 0]), np.array([0, 0, 0])
    right, wrong, missed = sort_out(OVERLAP, SCORES, predicted, true, conf=0.25)
    assert right.tolist() == [0]  # its double, the wrong class and the unsure one are not
    assert wrong.tolist() == [1, 2]
    assert missed.tolist() == [1, 2]


def test_every_confident_prediction_and_every_object_is_somewhere():
    rng = np.random.default_rng(0)
    overlap, scores = rng.random((5, 30)), rng.random(30)
    right, wrong, missed = sort_out(overlap, scores, rng.integers(0, 2, 30), rng.integers(0, 2, 5), conf=0.3)
    assert len(right) + len(wrong) == (scores > 0.3).sum()
    assert len(right) + len(missed) == 5


def test_the_picture_has_four_panels(tmp_path: Path):
    image = np.full((80, 120, 3), 114, np.uint8)
    boxes = np.array([[10, 20, 40, 60], [12, 22, 44, 60], [60, 10, 90, 40], [5, 5, 9, 9]], dtype=np.float32)
    write_error_picture(
        tmp_path / "errors.png",
        image,
        {0: "cell", 1: "clot"},
        boxes=boxes,
        scores=SCORES,
        classes=np.array([0, 0, 1, 0]),
        true_boxes=boxes[[0, 2, 3]],
        true_classes=np.array([0, 0, 0]),
        overlap=OVERLAP,
        conf=0.25,
    )
    picture = cv2.imread(str(tmp_path / "errors.png"))
    height, width = (picture.shape[0] - GAP) // 2, 120
    assert picture.shape[1] == 2 * width + GAP
    assert height > 80  # a title above each
    panels = [
        picture[top : top + height, left : left + width] for top in (0, height + GAP) for left in (0, width + GAP)
    ]
    assert len({panel.tobytes() for panel in panels}) == 4
    assert (image == 114).all()  # drawn on copies


def test_keypoints_are_drawn_in_the_panels_of_their_objects(tmp_path: Path):
    """One object found, with its keypoint at another place than the label's."""
    image, box = np.zeros((80, 120, 3), np.uint8), np.array([[10.0, 20, 110, 70]])
    write_error_picture(
        tmp_path / "errors.png",
        image,
        {0: "person"},
        boxes=box,
        scores=np.array([0.9]),
        classes=np.array([0]),
        true_boxes=box,
        true_classes=np.array([0]),
        overlap=np.ones((1, 1)),
        conf=0.25,
        keypoints=np.array([[[80.0, 50, 0.9]]]),
        true_keypoints=np.array([[[40.0, 50, 2]]]),
    )
    picture = cv2.imread(str(tmp_path / "errors.png"))
    height, title = (picture.shape[0] - GAP) // 2, (picture.shape[0] - GAP) // 2 - 80
    lit = {  # at the label's point, at the predicted one
        name: [bool(picture[top + title + 50, left + x].any()) for x in (40, 80)]
        for name, top, left in (
            ("labels", 0, 0),
            ("wrong", 0, 120 + GAP),
            ("right", height + GAP, 0),
            ("missed", height + GAP, 120 + GAP),
        )
    }
    assert lit == {"labels": [True, False], "wrong": [False] * 2, "right": [False, True], "missed": [False] * 2}
