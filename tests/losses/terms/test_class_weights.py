"""Weights from label counts, by hand."""

from __future__ import annotations

import torch

from sightline.losses.terms.class_weights import class_weights, positive_weights


def test_class_weights_by_hand():
    weights = class_weights(torch.tensor([4, 1, 0]), 0.5)  # 1/2, 1, and their mean for the absent one
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.0, 0.75]) / 0.75)
    assert class_weights(torch.tensor([9, 1]), 0.0).tolist() == [1.0, 1.0]
    assert class_weights(torch.zeros(3), 1.0).tolist() == [1.0, 1.0, 1.0]


def test_positive_weights_by_hand():
    assert positive_weights(torch.tensor([6, 3, 0, 1])).tolist() == [1.0, 2.0, 1.0, 6.0]
    assert positive_weights(torch.zeros(3)).tolist() == [1.0, 1.0, 1.0]  # no labels at all
    assert positive_weights(torch.zeros(0)).tolist() == []
