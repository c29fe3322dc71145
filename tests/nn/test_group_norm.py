"""GroupNorm takes BatchNorm's place, weights and names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sightline.nn.group_norm import convert, group_count


@pytest.mark.parametrize(
    ("channels", "groups"), [(3, 1), (16, 2), (48, 6), (80, 10), (83, 1), (100, 10), (256, 32), (384, 32), (320, 32)]
)
def test_group_count(channels: int, groups: int):
    assert group_count(channels) == groups


def test_the_exchange_keeps_weight_and_bias_and_drops_the_batch():
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16, eps=0.5))
    nn.init.normal_(model[1].weight)
    weight, bias = model[1].weight, model[1].bias
    convert(model)
    assert model[1].weight is weight
    assert model[1].bias is bias
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    x = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(model(x)[:1], model(x[:1]))
    y = model[0](x)[0, :8]  # the first of two groups, by hand
    y = (y - y.mean()) / (y.var(correction=0) + 0.5).sqrt() * weight[:8, None, None] + bias[:8, None, None]
    torch.testing.assert_close(model(x)[0, :8], y)
