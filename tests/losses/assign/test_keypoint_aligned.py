"""Assignment by keypoints, beside a slow version that tries every pair."""

from __future__ import annotations

import math

import pytest
import torch

from sightline.losses.assign.keypoint_aligned import KeypointAlignedAssigner
from sightline.losses.assign.task_aligned import TaskAlignedAssigner
from sightline.ops.anchors import make_anchors

STRIDES = (8, 16, 32)
SHAPES = [(16, 16), (8, 8), (4, 4)]  # 128 pixels
POINTS, CELLS = make_anchors(SHAPES, STRIDES, dtype=torch.float64)
POINTS = POINTS * CELLS
SIGMAS = torch.tensor([0.3, 0.1, 0.2])


def pairs_of(boxes: list[list[float]], kind=KeypointAlignedAssigner):
    table = torch.tensor([boxes], dtype=torch.float64)
    return kind(stride=STRIDES).candidates(table, torch.ones(table.shape[:2], dtype=torch.bool), POINTS, SHAPES)


@pytest.mark.parametrize(
    ("side", "strides"),
    [(6, {8}), (31, {8}), (33, {8, 16}), (70, {8, 16, 32}), (95, {8, 16, 32}), (97, {16, 32}), (120, {16, 32})],
)
def test_levels_suit_the_size(side: float, strides: set[int]):
    first = 64 - side / 2
    pairs = pairs_of([[first, first, first + side, first + side]])
    assert {int(CELLS[anchor]) for anchor in pairs.anchor} == strides


def test_the_side_is_that_of_a_square_of_the_same_area():
    assert {int(CELLS[anchor]) for anchor in pairs_of([[0, 54, 128, 62]]).anchor} == {8, 16}  # √(128 · 8) = 32


def test_a_target_that_no_suitable_level_can_learn_keeps_the_others():
    # Larger than twelve cells of the coarsest level there is, seen by the finest level only.
    assigner = KeypointAlignedAssigner(stride=STRIDES)
    box = torch.tensor([[[10.0, 10, 118, 118]]], dtype=torch.float64)
    fine = POINTS[:256]
    shapes = [(16, 16), (0, 0), (0, 0)]
    pairs = assigner.candidates(box, torch.ones(1, 1, dtype=torch.bool), fine, shapes)
    assert len(pairs.anchor) > 100


def similarity(true: torch.Tensor, predicted: torch.Tensor, box: torch.Tensor) -> float:
    area = float((box[2] - box[0]) * (box[3] - box[1])) * 0.53
    near = [
        math.exp(-float((p - t[:2]).square().sum()) / ((2 * float(s)) ** 2 * area * 2))
        for t, p, s in zip(true, predicted, SIGMAS, strict=True)
        if t[2] > 0
    ]
    return sum(near) / len(near)


def test_overlap_is_similarity_or_that_of_boxes():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[[20.0, 20, 60, 70], [50, 40, 110, 100]]], dtype=torch.float64)
    true = torch.rand(1, 2, 3, 3, generator=generator, dtype=torch.float64) * 40 + 30
    true[0, 0, :, 2] = torch.tensor([2.0, 0, 1])
    true[0, 1, :, 2] = 0  # nothing of the second can be seen
    predicted = torch.rand(1, len(POINTS), 3, 2, generator=generator, dtype=torch.float64) * 40 + 30
    predicted_boxes = torch.cat([POINTS - 20, POINTS + 25], 1)[None]
    extra = {"pd_keypoints": predicted, "gt_keypoints": true, "sigmas": SIGMAS}
    assigner = KeypointAlignedAssigner(stride=STRIDES)
    pairs = assigner.candidates(boxes, torch.ones(1, 2, dtype=torch.bool), POINTS, SHAPES)
    found = assigner.overlap(pairs, predicted_boxes, boxes, **extra)
    of_boxes = TaskAlignedAssigner(stride=STRIDES).overlap(pairs, predicted_boxes, boxes)
    seen = {0: 0, 1: 0}
    for target, anchor, own, plain in zip(pairs.target, pairs.anchor, found, of_boxes, strict=True):
        expected = similarity(true[0, 0], predicted[0, anchor], boxes[0, 0]) if target == 0 else float(plain)
        assert float(own) == pytest.approx(expected, abs=1e-9)
        seen[int(target)] += 1
    assert min(seen.values()) > 5


def test_no_target_at_all():
    assigner = KeypointAlignedAssigner(stride=STRIDES, num_classes=2)
    nothing = torch.zeros(1, 0, 4)
    labels, _, scores, positive, _ = assigner(
        torch.rand(1, len(POINTS), 2),
        torch.rand(1, len(POINTS), 4),
        POINTS.float(),
        torch.zeros(1, 0, 1),
        nothing,
        torch.zeros(1, 0, 1),
        pd_keypoints=torch.zeros(1, len(POINTS), 3, 2),
        gt_keypoints=torch.zeros(1, 0, 3, 3),
        sigmas=SIGMAS,
    )
    assert not positive.any()
    assert not scores.any()
    assert (labels == 2).all()
