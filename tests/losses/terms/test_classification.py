"""The sparse cross-entropy against PyTorch's, over a full table of targets."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sightline.losses.terms.classification import sparse_cross_entropy


def _case(seed: int = 0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 4, 50, generator=generator, dtype=torch.float64).mul_(6).to(dtype).requires_grad_()
    flat = torch.randperm(3 * 50, generator=generator)[:20]
    image, anchor = flat // 50, flat % 50
    class_ = torch.randint(0, 4, (20,), generator=generator)
    score = torch.rand(20, generator=generator, dtype=torch.float64)
    table = torch.zeros(3, 4, 50, dtype=torch.float64)
    table[image, class_, anchor] = score
    return logits, (image, class_, anchor, score), table


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)])
@pytest.mark.parametrize("lifted", [None, torch.tensor([1.0, 11.5, 0.25, 1.0], dtype=torch.float64)])
def test_value_and_gradient_equal_the_dense_form(weights, lifted):
    logits, places, table = _case()
    loss = sparse_cross_entropy(logits, *places, weights, lifted)
    lift = None if lifted is None else lifted[:, None]
    costs = F.binary_cross_entropy_with_logits(logits, table, reduction="none", pos_weight=lift)
    expected = (costs if weights is None else costs * weights[:, None]).sum()
    torch.testing.assert_close(loss, expected)
    (actual_gradient,) = torch.autograd.grad(loss * 3, logits)
    (expected_gradient,) = torch.autograd.grad(expected * 3, logits)
    torch.testing.assert_close(actual_gradient, expected_gradient)
    assert torch.autograd.gradcheck(lambda x: sparse_cross_entropy(x, *places, weights, lifted), logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_added_up_in_float32(dtype):
    logits, places, table = _case(dtype=dtype)
    loss = sparse_cross_entropy(logits, *places)
    assert loss.dtype == torch.float32
    expected = F.binary_cross_entropy_with_logits(logits.detach().double(), table, reduction="sum")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert logits.grad.dtype == dtype


def test_no_positives_and_no_images():
    logits, _, table = _case()
    none = torch.zeros(0, dtype=torch.long)
    expected = F.binary_cross_entropy_with_logits(logits, torch.zeros_like(table), reduction="sum")
    torch.testing.assert_close(sparse_cross_entropy(logits, none, none, none, torch.zeros(0)), expected)
    assert sparse_cross_entropy(logits[:0], none, none, none, torch.zeros(0)).item() == 0


def test_a_place_that_occurs_twice_has_the_sum_as_its_target():
    logits, _, _ = _case()
    places = tuple(torch.tensor(number) for number in ([1, 1], [2, 2], [7, 7]))
    table = torch.zeros_like(logits)
    table[1, 2, 7] = 0.75
    lifted = torch.tensor([1.0, 1.0, 4.0, 1.0])
    loss = sparse_cross_entropy(logits, *places, torch.tensor([0.5, 0.25]), None, lifted)
    expected = F.binary_cross_entropy_with_logits(logits, table, reduction="sum", pos_weight=lifted[:, None].double())
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (loss, expected)]
    torch.testing.assert_close(*gradients)


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[[1e4, -1e4]]], requires_grad=True)
    zero = torch.zeros(1, dtype=torch.long)
    loss = sparse_cross_entropy(logits, zero, zero, zero, torch.ones(1))
    assert loss.item() == pytest.approx(0, abs=1e-6)
    loss.backward()
    assert logits.grad.isfinite().all()
