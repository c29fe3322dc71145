"""Attention against the formula written with loops over heads."""

from __future__ import annotations

import pytest
import torch

from sightline.nn.attention import C2PSA, Attention, PSABlock, heads_for


def attention_by_hand(block: Attention, x: torch.Tensor) -> torch.Tensor:
    batch, width, height, breadth = x.shape
    cells = height * breadth
    per_head = block.qkv(x).view(batch, block.heads, 2 * block.key_dim + block.head_dim, cells)
    seen, values = [], []
    for head in range(block.heads):
        query = per_head[:, head, : block.key_dim]
        key = per_head[:, head, block.key_dim : 2 * block.key_dim]
        value = per_head[:, head, 2 * block.key_dim :]
        weights = torch.softmax(query.transpose(1, 2) @ key * block.key_dim**-0.5, dim=-1)  # (B, query, key)
        seen.append(value @ weights.transpose(1, 2))
        values.append(value)
    maps = (torch.cat(each, 1).view(batch, width, height, breadth) for each in (seen, values))
    return block.proj(next(maps) + block.pe(next(maps)))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("channels", "heads"), [(32, 1), (64, 4)])
def test_attention_is_the_formula(channels: int, heads: int, memory_format: torch.memory_format):
    block = Attention(channels, heads=heads).double().eval().to(memory_format=memory_format)
    x = torch.randn(2, channels, 5, 3, dtype=torch.float64).contiguous(memory_format=memory_format)
    torch.testing.assert_close(block(x), attention_by_hand(block, x.contiguous()), rtol=1e-10, atol=1e-12)


def test_gradient_reaches_queries_keys_and_values():
    block = Attention(32, heads=2).train()
    block(torch.randn(2, 32, 4, 4)).square().sum().backward()
    gradient = block.qkv.conv.weight.grad.view(2, 2 * block.key_dim + block.head_dim, -1)
    assert (gradient.abs().sum((0, 2)) > 0).all()


def test_a_block_with_zero_output_passes_its_input_on():
    block = PSABlock(64, heads=1).eval()
    for last in (block.attn.proj, block.ffn[1]):
        torch.nn.init.zeros_(last.bn.weight)
    x = torch.randn(1, 64, 4, 4)
    torch.testing.assert_close(block(x), x)


def test_c2psa_keeps_its_width_or_says_so():
    assert C2PSA(64, 64, repeats=2)(torch.randn(2, 64, 4, 4)).shape == (2, 64, 4, 4)
    with pytest.raises(ValueError, match="64 channels and shall give 32"):
        C2PSA(64, 32)


@pytest.mark.parametrize(("channels", "heads"), [(32, 1), (64, 1), (128, 2), (384, 6)])
def test_one_head_for_64_channels(channels: int, heads: int):
    assert heads_for(channels) == heads
