from __future__ import annotations

import math

import pytest
import torch

from sightline.ops import iou


def _random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    near = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 50
    return torch.cat([near, near + 1 + torch.rand(count, 2, generator=generator, dtype=torch.float64) * 40], dim=1)


def test_pairs_worked_by_hand():
    a = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 4.0, 4.0]])
    b = torch.tensor([[5.0, 0.0, 15.0, 10.0], [20.0, 20.0, 30.0, 30.0], [0.0, 0.0, 4.0, 4.0]])
    expected = torch.tensor([[50 / 150, 0.0, 16 / 100], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(iou.pairwise_iou(a, b), expected)
    torch.testing.assert_close(iou.pairwise_ioa(a, b), torch.tensor([[0.5, 0.0, 1.0], [0.0, 0.0, 1.0]]))


def test_pairwise_equals_a_grid_of_pixels():
    """Boxes with whole corners: count the unit squares that both cover."""
    generator = torch.Generator().manual_seed(1)
    near = torch.randint(0, 12, (9, 2), generator=generator)
    boxes = torch.cat([near, near + torch.randint(1, 8, (9, 2), generator=generator)], dim=1)
    masks = torch.zeros(9, 20, 20, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    intersection = (masks[:, None] & masks[None]).sum((2, 3))
    union = (masks[:, None] | masks[None]).sum((2, 3))
    torch.testing.assert_close(iou.pairwise_iou(boxes.double(), boxes.double()), intersection / union.double())


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_no_boxes(n, m):
    assert iou.pairwise_iou(torch.zeros(n, 4), torch.zeros(m, 4)).shape == (n, m)
    assert iou.matched_iou(torch.zeros(0, 4), torch.zeros(0, 4), "ciou").shape == (0, 1)


def test_matched_is_the_diagonal_of_pairwise():
    a, b = _random_boxes(40, 0), _random_boxes(40, 1)
    torch.testing.assert_close(iou.matched_iou(a, b).squeeze(1), iou.pairwise_iou(a, b).diagonal(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_equal_boxes_overlap_fully_and_corners_agree_with_centres(kind):
    a, b = _random_boxes(40, 0), _random_boxes(40, 1)
    torch.testing.assert_close(iou.matched_iou(a, a, kind), torch.ones(40, 1, dtype=torch.float64), atol=1e-6, rtol=0)

    def centred(boxes):
        return torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1)

    torch.testing.assert_close(
        iou.matched_iou(a, b, kind), iou.matched_iou(centred(a), centred(b), kind, xywh=True), atol=1e-6, rtol=0
    )


def test_giou_and_diou_worked_by_hand():
    a, b = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[4.0, 0.0, 6.0, 2.0]])
    assert iou.matched_iou(a, b, "giou").item() == pytest.approx(-4 / 12)  # hull 12, union 8
    assert iou.matched_iou(a, b, "diou").item() == pytest.approx(-16 / 40)  # centres 4 apart, diagonal² 40
    assert iou.matched_iou(a, b, "ciou").item() == pytest.approx(-16 / 40)  # same proportions


def test_ciou_of_unlike_proportions_worked_by_hand():
    a, b = torch.tensor([[0.0, 0.0, 4.0, 1.0]]), torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    v = 4 / math.pi**2 * (math.atan(1) - math.atan(4)) ** 2
    expected = 4 / 16 - (2.25 / 32 + v * v / (1 - 4 / 16 + v))
    assert iou.matched_iou(a, b, "ciou").item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["iou", "giou", "diou"])
def test_gradients(kind):
    a, b = _random_boxes(6, 2).requires_grad_(), _random_boxes(6, 3)
    assert torch.autograd.gradcheck(lambda x: iou.matched_iou(x, b, kind), a)


def test_ciou_gradient_treats_the_trade_off_as_constant():
    a, b = _random_boxes(6, 2), _random_boxes(6, 3)
    (actual,) = torch.autograd.grad(iou.matched_iou(x := a.clone().requires_grad_(), b, "ciou").sum(), x)

    def proportions(boxes):
        ratio = (boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1])
        other = (b[:, 2] - b[:, 0]) / (b[:, 3] - b[:, 1])
        return 4 / math.pi**2 * (other.atan() - ratio.atan()) ** 2

    fixed = proportions(a) / (1 - iou.matched_iou(a, b).squeeze(1) + proportions(a))
    y = a.clone().requires_grad_()
    (expected,) = torch.autograd.grad((iou.matched_iou(y, b, "diou").squeeze(1) - fixed * proportions(y)).sum(), y)
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)


def test_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="siou"):
        iou.matched_iou(torch.zeros(1, 4), torch.zeros(1, 4), "siou")


def test_probabilistic_overlap_falls_with_distance_and_ignores_half_a_turn():
    box = torch.tensor([[50.0, 50.0, 30.0, 10.0, 0.3]], dtype=torch.float64)
    moved = box.repeat(4, 1)
    moved[:, 0] += torch.tensor([0.0, 5.0, 10.0, 40.0])
    overlaps = iou.matched_probabilistic_iou(box, moved).squeeze(1)
    assert (overlaps.diff() < 0).all()
    assert overlaps[0] > 0.999
    turned = moved + torch.tensor([0.0, 0.0, 0.0, 0.0, math.pi])
    torch.testing.assert_close(iou.pairwise_probabilistic_iou(box, turned)[0], overlaps, atol=1e-6, rtol=0)
