"""Focal modulation without a table, against the formula written over a full one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sightline.losses.terms.classification import sparse_cross_entropy
from sightline.losses.terms.focal import focal_cross_entropy, sparse_focal_cross_entropy


def _case(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 40, generator=generator, dtype=torch.float64).mul_(4).to(dtype).requires_grad_()
    flat = torch.randperm(2 * 40, generator=generator)[:15]
    image, anchor = flat // 40, flat % 40
    class_ = torch.randint(0, 3, (15,), generator=generator)
    score = torch.rand(15, generator=generator, dtype=torch.float64)
    table = torch.zeros(2, 3, 40, dtype=torch.float64)
    table[image, class_, anchor] = score
    return logits, (image, class_, anchor, score), table


WEIGHTS = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
LIFTED = torch.tensor([1.0, 11.5, 3.0], dtype=torch.float64)


@pytest.mark.parametrize("gamma", [1.0, 1.5, 2.0])
@pytest.mark.parametrize(("weights", "lifted"), [(None, None), (WEIGHTS, None), (None, LIFTED), (WEIGHTS, LIFTED)])
def test_value_and_gradient_equal_the_formula(gamma, weights, lifted):
    logits, places, table = _case()
    loss = sparse_focal_cross_entropy(logits, *places, gamma, weights, lifted)
    p = logits.sigmoid()
    lift = 1.0 if lifted is None else lifted[:, None]
    costs = -(lift * table * p.log() + (1 - table) * (1 - p).log()) * (table - p).abs() ** gamma
    expected = (costs if weights is None else costs * weights[:, None]).sum()
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(value * 3, logits)[0] for value in (loss, expected)]
    torch.testing.assert_close(*gradients)
    assert torch.autograd.gradcheck(lambda x: sparse_focal_cross_entropy(x, *places, gamma, weights, lifted), logits)


def test_without_modulation_it_is_cross_entropy():
    logits, places, _ = _case()
    torch.testing.assert_close(sparse_focal_cross_entropy(logits, *places, 0.0), sparse_cross_entropy(logits, *places))


def test_hard_targets_give_the_focal_loss_and_soft_ones_cost_nothing_where_they_are_met():
    logits = torch.tensor([2.0, -1.0], dtype=torch.float64)
    p = logits.sigmoid()
    torch.testing.assert_close(focal_cross_entropy(logits, torch.ones(2).double(), 2.0), -((1 - p) ** 2) * p.log())
    torch.testing.assert_close(focal_cross_entropy(logits, torch.zeros(2).double(), 2.0), -(p**2) * (1 - p).log())
    assert focal_cross_entropy(logits, p, 2.0).abs().max() < 1e-12


def test_entries_that_do_not_count_change_nothing():
    """On a GPU lists keep a length known beforehand: further entries have score 0 and may lie anywhere."""
    logits, places, _ = _case()
    padded = [torch.cat([column, column[:4]]) for column in places]
    padded[3][-4:] = 0
    torch.testing.assert_close(
        sparse_focal_cross_entropy(logits, *padded, 2.0), sparse_focal_cross_entropy(logits, *places, 2.0)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_added_up_in_float32(dtype):
    logits, places, table = _case(dtype)
    loss = sparse_focal_cross_entropy(logits, *places, 2.0)
    assert loss.dtype == torch.float32
    x = logits.detach().double()
    expected = F.binary_cross_entropy_with_logits(x, table, reduction="none") * (table - x.sigmoid()).abs() ** 2
    assert loss.item() == pytest.approx(expected.sum().item(), rel=1e-5)
    loss.backward()
    assert logits.grad.dtype == dtype


def test_no_positives_no_images_and_extreme_logits():
    logits, _, _ = _case()
    none = torch.zeros(0, dtype=torch.long)
    empty = (none, none, none, torch.zeros(0))
    expected = (F.softplus(logits) * logits.sigmoid() ** 2).sum()
    torch.testing.assert_close(sparse_focal_cross_entropy(logits, *empty, 2.0), expected)
    assert sparse_focal_cross_entropy(logits[:0], *empty, 2.0).item() == 0
    extreme = torch.tensor([[[1e4, -1e4]]], requires_grad=True)
    zero = torch.zeros(1, dtype=torch.long)
    sparse_focal_cross_entropy(extreme, zero, zero, zero, torch.ones(1), 2.0).backward()
    assert extreme.grad.isfinite().all()
