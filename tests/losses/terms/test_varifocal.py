"""The sum over places against the loss of every element."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sightline.losses.terms.varifocal import varifocal_sum


def dense(logits: torch.Tensor, targets: torch.Tensor, positive: torch.Tensor, alpha: float, gamma: float):
    weight = alpha * logits.sigmoid() ** gamma * (1 - positive) + targets * positive
    return (F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weight).sum()


def test_sum_and_gradient_are_those_of_the_dense_loss():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64).requires_grad_()
    places = tuple(torch.tensor(each) for each in ([0, 1, 1], [0, 2, 2], [4, 0, 3], [1, 3, 3]))
    quality = torch.tensor([0.3, 0.0, 1.0], dtype=torch.float64)
    targets = torch.zeros_like(logits).index_put(places, quality)
    positive = torch.zeros_like(logits).index_put(places, torch.ones(3, dtype=torch.float64))
    expected = dense(logits, targets, positive, 0.25, 1.5)
    (wanted,) = torch.autograd.grad(expected, logits)
    actual = varifocal_sum(logits, places, quality, torch.tensor(0.25), 1.5)
    (gradient,) = torch.autograd.grad(actual, logits)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(gradient, wanted)


def test_weights_of_classes_are_those_of_the_dense_loss():
    """Of all costs of a class, and of what its objects cost for not being seen."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64).requires_grad_()
    places = tuple(torch.tensor(each) for each in ([0, 1, 1], [0, 2, 2], [4, 0, 3], [1, 3, 3]))
    quality = torch.tensor([0.3, 0.0, 1.0], dtype=torch.float64)
    weights, lift = torch.tensor([1.0, 2.0, 0.5, 3.0]).double(), torch.tensor([1.0, 4.0, 1.0, 2.0]).double()
    targets = torch.zeros_like(logits).index_put(places, quality)
    positive = torch.zeros_like(logits).index_put(places, torch.ones(3, dtype=torch.float64))
    share = 0.25 * logits.sigmoid() ** 1.5 * (1 - positive) + targets * positive
    costs = F.binary_cross_entropy_with_logits(logits, targets, reduction="none", pos_weight=lift)
    expected = (costs * share * weights).sum()
    (wanted,) = torch.autograd.grad(expected, logits)
    actual = varifocal_sum(
        logits, places, quality, torch.tensor(0.25), 1.5, weights=weights.float(), positive_weights=lift.float()
    )
    (gradient,) = torch.autograd.grad(actual, logits)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(gradient, wanted)


def test_nothing_matched_and_nothing_there():
    nothing = torch.zeros(0, dtype=torch.long)
    for shape in ((2, 3, 4), (0, 3, 4)):
        logits = torch.randn(*shape, requires_grad=True)
        value = varifocal_sum(logits, (nothing, nothing, nothing), torch.zeros(0), torch.tensor(0.75), 1.5)
        value.backward()
        p = logits.detach().sigmoid()
        torch.testing.assert_close(value, (0.75 * p**1.5 * F.softplus(logits.detach())).sum())
        assert logits.grad is not None
