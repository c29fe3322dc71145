from __future__ import annotations

import numpy as np
import pytest
import torch

from sightline.ops import boxes
from sightline.ops.keypoints import scale_keypoints

PAIRS = [
    (boxes.xyxy_to_xywh, boxes.xywh_to_xyxy),
    (boxes.xyxy_to_ltwh, boxes.ltwh_to_xyxy),
    (boxes.xywh_to_ltwh, boxes.ltwh_to_xywh),
]


def test_formats_of_a_box_worked_by_hand():
    corners = np.array([[10.0, 5.0, 30.0, 25.0]])
    assert boxes.xyxy_to_xywh(corners).tolist() == [[20.0, 15.0, 20.0, 20.0]]
    assert boxes.xyxy_to_ltwh(corners).tolist() == [[10.0, 5.0, 20.0, 20.0]]
    assert boxes.xyxy_to_xywhn(corners, (50, 100)).tolist() == [[0.2, 0.3, 0.2, 0.4]]
    assert boxes.xywhn_to_xyxy(np.array([[0.2, 0.3, 0.2, 0.4]]), (50, 100)) == pytest.approx(corners)


@pytest.mark.parametrize("shape", [(0, 4), (7, 4), (2, 3, 4)])
@pytest.mark.parametrize(("there", "back"), PAIRS)
def test_formats_round_trip_in_both_libraries(there, back, shape):
    array = np.random.default_rng(0).uniform(0, 100, shape)
    np.testing.assert_allclose(back(there(array)), array)
    tensor = torch.from_numpy(array)
    assert isinstance(there(tensor), torch.Tensor)
    np.testing.assert_allclose(there(tensor).numpy(), there(array))
    assert there(array).dtype == array.dtype


def test_nothing_is_changed_in_place():
    tensor = torch.tensor([[-5.0, -5.0, 200.0, 200.0]])
    boxes.clip_boxes(tensor, (100, 120))
    boxes.scale_boxes((100, 100), tensor, (50, 50))
    assert tensor.tolist() == [[-5.0, -5.0, 200.0, 200.0]]


def test_clip_moves_corners_onto_the_border():
    inside = boxes.clip_boxes(torch.tensor([[-5.0, 10.0, 130.0, 90.0], [130.0, -9.0, 140.0, -1.0]]), (80, 120))
    assert inside.tolist() == [[0.0, 10.0, 120.0, 80.0], [120.0, 0.0, 120.0, 0.0]]


def test_normalised_clip_keeps_the_far_border_a_margin_away():
    clipped = boxes.xyxy_to_xywhn(np.array([[0.0, 0.0, 300.0, 300.0]]), (100, 200), clip=True, margin=1.0)
    assert clipped.tolist() == [[199 / 2 / 200, 99 / 2 / 100, 199 / 200, 99 / 100]]


@pytest.mark.parametrize("to_hw", [(480, 640), (333, 500), (1000, 37), (640, 640)])
def test_scale_boxes_undoes_a_letterbox(to_hw):
    height, width = to_hw
    gain = 640 / max(to_hw)
    new_height, new_width = max(round(height * gain), 1), max(round(width * gain), 1)
    pad_x, pad_y = round((640 - new_width) / 2 - 0.1), round((640 - new_height) / 2 - 0.1)
    original = np.array([[0.1 * width, 0.2 * height, 0.7 * width, 0.9 * height, 0.5, 3.0]])
    there = original.copy()
    there[:, [0, 2]] = original[:, [0, 2]] * new_width / width + pad_x
    there[:, [1, 3]] = original[:, [1, 3]] * new_height / height + pad_y
    np.testing.assert_allclose(boxes.scale_boxes((640, 640), there, to_hw), original)
    given = ((new_height / height, new_width / width), (pad_x, pad_y))
    np.testing.assert_allclose(boxes.scale_boxes((640, 640), there, to_hw, given), original)
    points = scale_keypoints((640, 640), there[:, None, [0, 1, 5]], to_hw)
    np.testing.assert_allclose(points, original[:, None, [0, 1, 5]])
    np.testing.assert_allclose(
        scale_keypoints((640, 640), there[:, None, :2], to_hw, normalize=True), [[[0.1, 0.2]]], rtol=1e-9
    )


def test_scale_boxes_without_a_border_and_by_centre():
    stretched = torch.tensor([[10.0, 20.0, 30.0, 40.0]])
    assert boxes.scale_boxes((100, 100), stretched, (200, 200), padding=False).tolist() == [[20.0, 40.0, 60.0, 80.0]]
    centred = boxes.scale_boxes((100, 100), stretched, (100, 50), ((1.0, 1.0), (25.0, 0.0)), xywh=True)
    assert centred.tolist() == [[-15.0, 20.0, 30.0, 40.0]]  # only the centre moves, nothing is clipped


def test_scale_accepts_no_boxes():
    assert boxes.scale_boxes((64, 64), torch.zeros(0, 6), (32, 32)).shape == (0, 6)
    assert scale_keypoints((64, 64), torch.zeros(0, 17, 3), (32, 32)).shape == (0, 17, 3)


def test_inverse_sigmoid():
    inside = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    torch.testing.assert_close(boxes.inverse_sigmoid(inside).sigmoid(), inside)
    ends = boxes.inverse_sigmoid(torch.tensor([-3.0, 0.0, 1.0, 7.0]), 1e-3)
    torch.testing.assert_close(ends, torch.tensor([-1, -1, 1, 1]) * torch.tensor(1000.0).log())
