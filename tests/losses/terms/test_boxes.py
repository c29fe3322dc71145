from __future__ import annotations

import math

import pytest
import torch

from sightline.losses.terms.boxes import BoxLoss, distance_l1_loss, distribution_focal_loss, overlap_loss


def test_overlap_loss_of_equal_and_far_boxes():
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    assert overlap_loss(box, box).item() == pytest.approx(0, abs=1e-6)
    assert overlap_loss(box, box + 100).item() > 1


def test_distribution_loss_is_a_mix_of_two_bins():
    logits = torch.log(torch.tensor([[[0.1, 0.2, 0.3, 0.4]] * 4]))
    distances = torch.tensor([[0.0, 1.25, 2.5, 2.99]])
    sides = [
        -math.log(0.1),
        -(0.75 * math.log(0.2) + 0.25 * math.log(0.3)),
        -(0.5 * math.log(0.3) + 0.5 * math.log(0.4)),
        -(0.01 * math.log(0.3) + 0.99 * math.log(0.4)),
    ]
    assert distribution_focal_loss(logits, distances).item() == pytest.approx(sum(sides) / 4, rel=1e-5)


def test_l1_is_a_share_of_the_image():
    predicted, true = torch.tensor([[1.0, 1.0, -1.0, 2.0]]), torch.tensor([[2.0, 1.0, 1.0, 1.0]])
    loss = distance_l1_loss(predicted, true, torch.tensor([[16.0]]), (64, 128))
    assert loss.item() == pytest.approx((16 / 128 + 0 + 32 / 128 + 16 / 64) / 4)


@pytest.mark.parametrize("reg_max", [1, 8])
def test_gradients_and_no_positives(reg_max):
    generator = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    raw, points, strides = rand(5, 4 * reg_max).requires_grad_(), rand(5, 2) * 4 + 2, torch.full((5, 1), 8.0).double()
    target = torch.cat([points - 0.3 - rand(5, 2), points + 0.3 + rand(5, 2)], dim=1)
    predicted = torch.cat([points - 0.2 - rand(5, 2), points + 0.4 + rand(5, 2)], dim=1)
    loss = BoxLoss(reg_max)
    assert torch.autograd.gradcheck(lambda x: loss(x, predicted, target, points, strides, (64, 64))[1], raw)
    empty = [tensor[:0] for tensor in (raw, predicted, target, points, strides)]
    assert [term.shape for term in loss(*empty, (64, 64))] == [(0,), (0,)]
