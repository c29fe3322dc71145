from __future__ import annotations

import pytest
import torch

from sightline.ops.anchors import decode_distances, encode_distances, make_anchors


def test_points_of_two_levels_by_hand():
    points, strides = make_anchors([(2, 3), (1, 1)], [8, 16])
    assert points.tolist() == [[0.5, 0.5], [1.5, 0.5], [2.5, 0.5], [0.5, 1.5], [1.5, 1.5], [2.5, 1.5], [0.5, 0.5]]
    assert strides.tolist() == [[8.0]] * 6 + [[16.0]]


def test_strides_may_be_a_tensor_and_must_match():
    assert make_anchors([(1, 1)], torch.tensor([32.0]))[1].tolist() == [[32.0]]
    with pytest.raises(ValueError, match="2 feature maps but 1 strides"):
        make_anchors([(2, 3), (1, 1)], [8])


def test_decode_and_encode_are_inverse():
    points, _ = make_anchors([(3, 4)], [8], dtype=torch.float64)
    distances = torch.randn(2, 12, 4, dtype=torch.float64)  # negative ones too
    boxes = decode_distances(distances, points)
    torch.testing.assert_close(encode_distances(points, boxes), distances)
    assert decode_distances(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[10.0, 10.0]])).tolist() == [
        [9.0, 8.0, 13.0, 14.0]
    ]


def test_encode_clamps_to_what_the_bins_can_say():
    far = encode_distances(torch.tensor([[0.0, 0.0]]), torch.tensor([[5.0, -3.0, 99.0, 2.0]]), limit=15)
    torch.testing.assert_close(far, torch.tensor([[0.0, 3.0, 14.99, 2.0]]))
