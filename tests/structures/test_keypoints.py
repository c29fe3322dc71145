"""Keypoints of a result, and their picture."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.errors import ShapeError
from sightline.structures.draw import class_colour
from sightline.structures.results import Keypoints, Results
from sightline.structures.skeleton import draw_keypoints, limbs_of

POINTS = torch.tensor([[[10.0, 20, 0.9], [30, 25, 0.1]], [[40, 30, 0.8], [15, 15, 0.7]]])
BOXES = torch.tensor([[5.0, 5, 50, 50, 0.9, 0], [8, 8, 30, 40, 0.6, 1]])


def result(keypoints: torch.Tensor | np.ndarray = POINTS) -> Results:
    return Results(np.zeros((60, 80, 3), np.uint8), "a.png", ["one", "two"], boxes=BOXES, keypoints=keypoints)


def test_they_go_with_their_boxes():
    found = result()
    assert len(found[1:]) == len(found[1:].boxes) == len(found[1:].keypoints) == 1
    assert found[[True, False]].keypoints.xy.tolist() == POINTS[:1, :, :2].tolist()
    assert isinstance(found.numpy().keypoints.data, np.ndarray)
    assert found.to(torch.float64).keypoints.data.dtype == torch.float64
    assert found.new().keypoints is None
    found.update(keypoints=POINTS[:, :1])
    assert found.keypoints.shape == (2, 1, 3)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (1, 2, 3, 3)])
def test_a_wrong_shape(shape: tuple[int, ...]):
    with pytest.raises(ShapeError, match=r"\(N, K, 2\)"):
        Keypoints(torch.zeros(shape), (10, 10))


def test_one_object_and_points_without_confidence():
    one = Keypoints(POINTS[0, :, :2], (60, 80))
    assert (len(one), one.has_visible, one.conf) == (1, False, None)
    assert one.xyn.tolist()[0][1] == pytest.approx([30 / 80, 25 / 60])


def test_tables():
    rows = list(csv.DictReader(io.StringIO(result().to_csv())))
    assert float(rows[0]["kpt1_x"]) == 30
    assert float(rows[1]["kpt0_visible"]) == pytest.approx(0.8)
    assert list(result(POINTS[..., :2]).summary()[0]["keypoints"]) == ["x", "y"]


@pytest.mark.parametrize("numbers", [2, 3])
def test_text_files_also_where_nothing_was_found(numbers: int, tmp_path: Path):
    found = result(POINTS[..., :numbers])
    found.save_txt(tmp_path / "a.txt")
    rows = [[float(word) for word in row.split()] for row in (tmp_path / "a.txt").read_text().splitlines()]
    assert [len(row) for row in rows] == [5 + 2 * numbers] * 2
    assert rows[0][5:7] == pytest.approx([10 / 80, 20 / 60], abs=1e-5)
    found[:0].save_txt(tmp_path / "a.txt")
    assert not (tmp_path / "a.txt").exists() or (tmp_path / "a.txt").read_text() == ""


def test_a_picture_shows_what_is_sure():
    picture = result().plot(boxes=False, kpt_radius=2)
    assert picture[20, 10].tolist() == list(class_colour(0))
    assert not picture[23:28, 28:33].any()  # below 0.25
    assert picture[15, 15].tolist() == list(class_colour(1))


def test_people_have_limbs():
    assert len(limbs_of(17)) == 19
    assert limbs_of(5) == ()
    points = np.zeros((1, 17, 3))
    points[0, 5], points[0, 7] = (10, 10, 1), (50, 10, 1)  # a shoulder and its elbow
    with_, without = np.zeros((2, 40, 60, 3), np.uint8)
    draw_keypoints(with_, points, radius=2, line_width=2, limbs=True)
    draw_keypoints(without, points, radius=2, line_width=2, limbs=False)
    assert with_[10, 30].any()
    assert not without[10, 30].any()
    assert not with_[:5, :5].any()  # the other fifteen lie at (0, 0), where nothing is


def test_points_from_anywhere_are_no_problem():
    picture = np.zeros((20, 20, 3), np.uint8)
    draw_keypoints(picture, [[[float("nan"), 3], [1e12, 4], [-5, 5], [19.9, 19.9]]], radius=2, line_width=1, limbs=True)
    assert picture[19, 19].any()
    draw_keypoints(picture, np.zeros((0, 5, 3)), radius=2, line_width=1, limbs=True)


def test_a_point_is_seen_on_its_own_colour():
    picture = np.full((40, 40, 3), class_colour(0), np.uint8)
    draw_keypoints(picture, [[[20.0, 20, 0.9]]], radius=2, line_width=1, limbs=True)
    assert picture[20, 20].tolist() == list(class_colour(0))
    assert picture[20, 23].tolist() != list(class_colour(0))
