"""Area attention against the formula written with loops over areas and heads; the blocks around it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sightline.models.build import build_model, reset_weights
from sightline.models.fuse import fuse
from sightline.nn.area_attention import A2C2f, AreaAttention, AreaBlock, attend_in_areas


def area_lengths(cells: int, areas: int) -> list[int]:
    """Dealt out one by one, as cards: how many cells each area gets."""
    lengths = [0] * areas
    for cell in range(cells):
        lengths[cell % areas] += 1
    return lengths


def attention_by_hand(block: AreaAttention, x: torch.Tensor) -> torch.Tensor:
    """Every cell by itself: what it sees is its own area of the row-major cells."""
    batch, width, height, breadth = x.shape
    depth = block.head_dim
    per_head = block.qkv(x).reshape(batch, block.heads, 3 * depth, height * breadth)
    query, key, value = per_head[:, :, :depth], per_head[:, :, depth : 2 * depth], per_head[:, :, 2 * depth :]
    seen = torch.zeros_like(value)
    start = 0
    for length in area_lengths(height * breadth, block.areas):
        for cell in range(start, start + length):
            scores = (query[..., cell, None] * key[..., start : start + length]).sum(2) / depth**0.5
            seen[..., cell] = (scores.softmax(-1)[:, :, None] * value[..., start : start + length]).sum(-1)
        start += length
    maps = (each.reshape(batch, width, height, breadth) for each in (seen, value))
    return block.proj(next(maps) + block.pe(next(maps)))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("size", "areas"),
    [
        ((4, 6), 1),
        ((4, 6), 4),
        ((2, 3), 4),  # 6 cells: areas of 2, 2, 1 and 1
        ((5, 3), 4),  # 15 cells
        ((1, 3), 4),  # fewer cells than areas
        ((1, 1), 4),
    ],
)
def test_area_attention_is_the_formula(size: tuple[int, int], areas: int, memory_format: torch.memory_format):
    torch.manual_seed(0)
    block = AreaAttention(64, heads=2, areas=areas).double().eval().to(memory_format=memory_format)
    x = torch.randn(2, 64, *size, dtype=torch.float64).contiguous(memory_format=memory_format)
    torch.testing.assert_close(block(x), attention_by_hand(block, x.contiguous()), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("areas", [1, 3, 4, 7])
def test_gradients_are_those_of_differences(areas: int):
    torch.manual_seed(0)
    tokens = [torch.randn(1, 10, 1, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda *each: attend_in_areas(*each, areas), tokens)


def test_a_block_with_zero_output_passes_its_input_on():
    block = AreaBlock(64, heads=2, areas=4).eval()
    for last in (block.attn.proj, block.mlp[1]):
        nn.init.zeros_(last.bn.weight)
    x = torch.randn(1, 64, 4, 4)
    torch.testing.assert_close(block(x), x)


def test_the_residual_is_scaled_by_channel():
    torch.manual_seed(0)
    block = A2C2f(64, 64, residual=True).double().eval()
    plain = A2C2f(64, 64).double().eval()
    state = block.state_dict()
    assert next(iter(state)) == "gamma"
    assert state["gamma"].tolist() == pytest.approx([0.01] * 64)
    plain.load_state_dict({name: value for name, value in state.items() if name != "gamma"})
    scale = torch.linspace(-1, 1, 64, dtype=torch.float64)
    with torch.no_grad():
        block.gamma.copy_(scale)
    x = torch.randn(2, 64, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(block(x), x + scale.reshape(1, 64, 1, 1) * plain(x))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"expansion": 0.25}, "multiple of 32, but channels · expansion gives 16"),
        ({"out_channels": 96}, "multiple of 32, but channels · expansion gives 48"),
        ({"areas": 0}, "areas 0; give a whole number of 1 or more"),
        ({"areas": -1}, "areas -1; give a whole number"),
        ({"areas": 2.0}, "areas 2.0; give a whole number"),
        ({"in_channels": 128, "residual": True}, "gets 128 channels and shall give 64"),
    ],
)
def test_what_attention_cannot_be_had_with(options: dict, words: str):
    with pytest.raises(ValueError, match=words):
        A2C2f(**{"in_channels": 64, "out_channels": 64, **options})


def test_without_attention_its_numbers_do_not_matter():
    """As files written for Ultralytics have it: [256, False, -1]."""
    block = A2C2f(16, 48, repeats=2, attention=False, areas=-1, residual=True)
    assert block.gamma is None
    assert block(torch.randn(2, 16, 3, 3)).shape == (2, 48, 3, 3)


@pytest.mark.parametrize("again", [False, True])
def test_first_values(again: bool):
    network = build_model("yolo12n.yaml", nc=2)
    if again:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(7.0)
        reset_weights(network)
    blocks = [module for module in network.modules() if isinstance(module, AreaBlock)]
    assert len(blocks) == 8
    for conv in (module for block in blocks for module in block.modules() if isinstance(module, nn.Conv2d)):
        assert conv.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert conv.weight.abs().max() > 0.04  # a uniform distribution of that width ends at 0.035
    other = network.model[20].m[0].m[0].cv1.conv.weight  # 64 · 3 · 3 inputs: uniform within ±1/24
    assert other.abs().max() <= 1 / 24


def test_a_large_block_begins_anew():
    block = A2C2f(64, 64, residual=True)
    nn.init.ones_(block.gamma)
    reset = [module.reset_parameters() for module in block.modules() if isinstance(module, A2C2f)]
    assert reset
    assert block.gamma.tolist() == pytest.approx([0.01] * 64)


def test_folding_changes_nothing():
    torch.manual_seed(0)
    network = build_model("yolo12n.yaml", nc=2).double().eval()
    with torch.no_grad():
        for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
        image = torch.rand(1, 3, 64, 96, dtype=torch.float64)
        expected = network(image)[0]
        torch.testing.assert_close(fuse(network)(image)[0], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [(4, 6), (5, 3)])
def test_it_can_be_exported_for_one_size(size: tuple[int, int]):
    """Sizes are numbers of Python, and nothing is decided by the values of a tensor."""
    block = A2C2f(64, 64, areas=4, residual=True).eval()
    x = torch.randn(1, 64, *size)
    with torch.no_grad():
        program = torch.export.export(block, (x,), strict=False)
        torch.testing.assert_close(program.module()(x), block(x))
