"""Listing pairs by rectangles of cells against testing every anchor with every target."""

from __future__ import annotations

import pytest
import torch

from sightline.losses.assign.candidates import enlarge_small, grid_shapes, list_anywhere, list_on_grid
from sightline.ops.anchors import make_anchors

STRIDES = [8.0, 16.0, 32.0]
SHAPES = [(12, 20), (6, 10), (3, 5)]


def _points() -> torch.Tensor:
    points, strides = make_anchors(SHAPES, STRIDES)
    return points * strides


def _table(boxes: torch.Tensor, valid: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """(B, M, A) bool, one comparison at a time."""
    table = torch.zeros(*boxes.shape[:2], len(points), dtype=torch.bool)
    for image, slot in valid.nonzero().tolist():
        x1, y1, x2, y2 = boxes[image, slot].tolist()
        for anchor, (x, y) in enumerate(points.tolist()):
            table[image, slot, anchor] = x1 < x < x2 and y1 < y < y2
    return table


def _random_boxes(seed: int, images: int = 2, slots: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    near = torch.rand(images, slots, 2, generator=generator) * torch.tensor([170.0, 110.0]) - 10
    size = torch.rand(images, slots, 2, generator=generator) ** 3 * 120
    boxes = torch.cat([near, near + size], dim=-1)
    boxes[0, 0] = torch.tensor([-50.0, -50.0, 400.0, 400.0])  # everything
    boxes[0, 1] = torch.tensor([900.0, 900.0, 950.0, 950.0])  # outside
    boxes[0, 2] = torch.tensor([4.0, 4.0, 20.0, 20.0])  # corners on anchor points: the border does not count
    boxes[0, 3] = torch.tensor([30.0, 30.0, 20.0, 20.0])  # corners in the wrong order
    valid = torch.rand(images, slots, generator=generator) < 0.8
    valid[0, :4] = True
    return boxes, valid


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("listing", ["grid", "anywhere"])
def test_pairs_are_those_of_the_full_table(listing, seed):
    boxes, valid = _random_boxes(seed)
    points = _points()
    expected = _table(boxes, valid, points)
    if listing == "grid":
        pairs = list_on_grid(boxes, valid, points, SHAPES, STRIDES)
    else:
        pairs = list_anywhere(boxes, valid, points)
    actual = torch.zeros(18, len(points), dtype=torch.bool)
    actual[pairs.target, pairs.anchor] = True
    assert torch.equal(actual.view_as(expected), expected)
    assert len(pairs.target) == int(expected.sum())  # no pair twice
    order = pairs.target * len(points) + pairs.anchor
    assert (order.diff() > 0).all()  # by target, then by anchor: ties go to the lowest anchor
    assert torch.equal(pairs.image, pairs.target // 9)
    assert torch.equal(pairs.place, pairs.image * len(points) + pairs.anchor)
    assert pairs.valid_targets == int(valid.sum())


def test_the_list_is_short():
    """16 images at 640 px with 100 targets: the full table has 13 million entries."""
    generator = torch.Generator().manual_seed(0)
    points, strides = make_anchors([(80, 80), (40, 40), (20, 20)], STRIDES)
    near = torch.rand(16, 100, 2, generator=generator) * 560
    boxes = torch.cat([near, near + torch.rand(16, 100, 2, generator=generator) * 80], dim=-1)
    pairs = list_on_grid(
        boxes, torch.ones(16, 100, dtype=torch.bool), points * strides, [(80, 80), (40, 40), (20, 20)], STRIDES
    )
    assert 0 < len(pairs.target) < 16 * 100 * 8400 / 50


@pytest.mark.parametrize("slots", [0, 3])
def test_no_targets(slots):
    pairs = list_on_grid(torch.zeros(2, slots, 4), torch.zeros(2, slots, dtype=torch.bool), _points(), SHAPES, STRIDES)
    assert len(pairs.target) == 0
    assert pairs.valid_targets == 0


def test_broken_coordinates_give_no_pairs():
    boxes = torch.full((1, 2, 4), float("nan"))
    boxes[0, 1] = torch.tensor([0.0, 0.0, float("inf"), 9.0])
    pairs = list_on_grid(boxes, torch.ones(1, 2, dtype=torch.bool), _points(), SHAPES, STRIDES)
    assert 0 not in pairs.target.tolist()


def test_small_sides_are_raised_about_the_centre():
    boxes = torch.tensor([[10.0, 10.0, 14.0, 50.0], [0.0, 0.0, 20.0, 20.0], [5.0, 5.0, 5.0, 5.0]])
    expected = torch.tensor([[4.0, 10.0, 20.0, 50.0], [0.0, 0.0, 20.0, 20.0], [-3.0, -3.0, 13.0, 13.0]])
    assert torch.equal(enlarge_small(boxes, 16), expected)


@pytest.mark.parametrize("shapes", [SHAPES, [(4, 4), (2, 2), (1, 1)], [(1, 9)], [(8, 2), (4, 1)]])
def test_shapes_are_found_in_the_points(shapes):
    points, strides = make_anchors(shapes, STRIDES[: len(shapes)])
    assert grid_shapes(points * strides, STRIDES[: len(shapes)]) == shapes


def test_points_that_are_no_pyramid_are_recognised():
    points = _points()
    assert grid_shapes(points + 1, STRIDES) is None
    assert grid_shapes(points, [8.0, 16.0]) is None
    assert grid_shapes(points, [8.0, 16.0, 32.0, 64.0]) is None
    assert grid_shapes(points[:-1], STRIDES) is None
    assert grid_shapes(points.flip(0), STRIDES) is None
