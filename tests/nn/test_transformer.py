"""Attention against torch's own class; the position code against its formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sightline.nn.conv import Conv
from sightline.nn.transformer import AIFI, MLP, MultiheadAttention, position_code, to_tokens


def twin(own: MultiheadAttention) -> nn.MultiheadAttention:
    """torch's class with the same tensors, which must have the same names."""
    theirs = nn.MultiheadAttention(own.width, own.heads, batch_first=True).double().eval()
    theirs.load_state_dict(own.state_dict())
    return theirs


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_that_of_torch(masked: bool):
    torch.manual_seed(0)
    own = MultiheadAttention(32, 4).double()
    nn.init.normal_(own.in_proj_bias)
    seen, value = torch.randn(2, 7, 32, dtype=torch.float64), torch.randn(2, 7, 32, dtype=torch.float64)
    blocked = torch.rand(7, 7).fill_diagonal_(1) < 0.5 if masked else None
    expected = twin(own)(seen, seen, value, attn_mask=blocked, need_weights=False)[0]
    torch.testing.assert_close(own(seen, value, blocked), expected, rtol=1e-10, atol=1e-12)


def test_heads_must_share_the_width():
    with pytest.raises(ValueError, match="30 channels cannot be shared out among 4 heads"):
        MultiheadAttention(30, 4)
    with pytest.raises(ValueError, match="multiple of 4"):
        AIFI(30, heads=2)


def test_position_code_by_hand():
    code = position_code(3, 5, 8)  # two waves: 1 and 1/100
    assert code.shape == (15, 8)
    row, column = 2, 3
    expected = [f(place * wave) for place in (row, column) for f in (math.sin, math.cos) for wave in (1, 0.01)]
    assert code[row * 5 + column].tolist() == pytest.approx(expected, abs=1e-6)


def test_encoder_layer_is_that_of_torch():
    """torch's layer adds no position code, so its query and key are ours for a map whose code is put in by hand."""
    torch.manual_seed(0)
    own = AIFI(16, hidden=24, heads=2).double()
    x = torch.randn(2, 16, 3, 4, dtype=torch.float64)
    tokens = x.flatten(2).transpose(1, 2)
    coded = tokens + position_code(3, 4, 16)
    y = own.norm1(tokens + twin(own.ma)(coded, coded, tokens, need_weights=False)[0])
    y = own.norm2(y + own.fc2(nn.functional.gelu(own.fc1(y))))
    torch.testing.assert_close(own(x), y.transpose(1, 2).reshape(2, 16, 3, 4), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("read", [to_tokens, AIFI(8, hidden=8, heads=2).double()])
def test_one_image_gets_the_gradient_that_it_gets_beside_others(read):
    """torch's BatchNorm takes some strides of a gradient of one image wrong."""
    torch.manual_seed(0)
    before = Conv(3, 8, 1, activation=False).double()
    x, weight = torch.randn(2, 3, 4, 6, dtype=torch.float64), torch.randn(2, 24, 8, dtype=torch.float64)

    def gradient(images: slice) -> torch.Tensor:
        before.eval().zero_grad()
        read_ = read(before(x[images]))
        tokens = read_ if read_.ndim == 3 else to_tokens(read_)
        (tokens * weight[images]).sum().backward()
        return before.conv.weight.grad.clone()

    expected = gradient(slice(2))
    torch.testing.assert_close(gradient(slice(1)) + gradient(slice(1, 2)), expected)


def test_mlp_has_relu_between_and_none_at_the_end():
    mlp = MLP(2, 3, 4, 3)
    assert [tuple(layer.weight.shape) for layer in mlp.layers] == [(3, 2), (3, 3), (4, 3)]
    with torch.no_grad():
        for layer in mlp.layers:
            layer.weight.fill_(1)
            layer.bias.fill_(-1)
    assert mlp(torch.tensor([[2.0, 2.0]])).tolist() == [[23.0] * 4]  # 3 each, 8 each, 24 − 1
    assert mlp(torch.tensor([[0.0, 0.0]])).tolist() == [[-1.0] * 4]  # all that is below 0 was cut
