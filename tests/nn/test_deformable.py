"""Deformable attention against the formula, place by place."""

from __future__ import annotations

import math

import pytest
import torch

from sightline.nn.deformable import DeformableDecoderLayer, MSDeformAttn, sample_levels

SHAPES = [(3, 4), (2, 2)]


def look(values: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """(H, W, D) at x, y in [0, 1]: between the four cells around, of which those outside are 0."""
    height, width, _ = values.shape
    column, row = x * width - 0.5, y * height - 0.5
    found = torch.zeros_like(values[0, 0])
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < height and 0 <= j < width:
                found = found + values[i, j] * (1 - abs(row - i)) * (1 - abs(column - j))
    return found


def by_hand(block: MSDeformAttn, query, boxes, tokens) -> torch.Tensor:
    batch, queries, width = query.shape
    heads, levels, points = block.heads, block.levels, block.points
    values = block.value_proj(tokens).view(batch, -1, heads, width // heads)
    offsets = block.sampling_offsets(query).view(batch, queries, heads, levels, points, 2)
    weights = block.attention_weights(query).view(batch, queries, heads, levels * points).softmax(-1)
    out = torch.zeros(batch, queries, heads, width // heads, dtype=query.dtype)
    for b in range(batch):
        for q in range(queries):
            x, y, w, h = boxes[b, q].tolist()
            for head in range(heads):
                start = 0
                for level, (rows, columns) in enumerate(SHAPES):
                    of_level = values[b, start : start + rows * columns, head].view(rows, columns, -1)
                    start += rows * columns
                    for point in range(points):
                        dx, dy = offsets[b, q, head, level, point].tolist()
                        seen = look(of_level, x + dx / points * w * 0.5, y + dy / points * h * 0.5)
                        out[b, q, head] += weights[b, q, head, level * points + point] * seen
    return block.output_proj(out.flatten(2))


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    query = torch.randn(2, 3, 8, dtype=torch.float64)
    boxes = torch.rand(2, 3, 4, dtype=torch.float64)
    tokens = torch.randn(2, sum(h * w for h, w in SHAPES), 8, dtype=torch.float64)
    return query, boxes, tokens


def test_attention_is_the_formula():
    block = MSDeformAttn(8, levels=2, heads=2, points=3).double()
    torch.nn.init.normal_(block.sampling_offsets.weight)
    torch.nn.init.normal_(block.attention_weights.weight)
    query, boxes, tokens = inputs()
    with torch.no_grad():
        expected = by_hand(block, query, boxes, tokens)
        torch.testing.assert_close(block(query, boxes, tokens, SHAPES), expected, rtol=1e-10, atol=1e-12)


def test_first_offsets_point_away_from_the_centre_in_eight_directions():
    block = MSDeformAttn(16, levels=2, heads=8, points=3)
    offsets = block.sampling_offsets.bias.view(8, 2, 3, 2)
    assert torch.equal(offsets[:, 0], offsets[:, 1])
    torch.testing.assert_close(offsets[0, 0], torch.tensor([[1.0, 0], [2, 0], [3, 0]]))
    torch.testing.assert_close(offsets[1, 0], torch.tensor([[1.0, 1], [2, 2], [3, 3]]))
    torch.testing.assert_close(offsets[6, 0], torch.tensor([[0.0, -1], [0, -2], [0, -3]]), atol=1e-6, rtol=0)


def test_gradients_reach_values_places_and_weights():
    values = torch.randn(1, 16, 2, 3, dtype=torch.float64, requires_grad=True)
    places = (torch.rand(1, 4, 2, 4, 2, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()
    weights = torch.rand(1, 4, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *each: sample_levels(each[0], SHAPES, *each[1:]), (values, places, weights))


def test_half_precision_stays_near():
    """Coordinates and sums are in float32 under autocast; only the linear layers are rounded."""
    block = MSDeformAttn(8, levels=2, heads=2, points=3)
    query, boxes, tokens = (each.float() for each in inputs())
    expected = block(query, boxes, tokens, SHAPES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = block(query, boxes, tokens, SHAPES)
    assert (actual.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_a_blocked_query_learns_nothing_of_the_others():
    layer = DeformableDecoderLayer(8, levels=2, heads=2, points=2, hidden=16).double()
    query, boxes, tokens = inputs()
    blocked = torch.zeros(3, 3, dtype=torch.bool)
    blocked[0, 1:] = True
    first = layer(query, boxes, tokens, SHAPES, query, blocked)
    query = query.clone()
    query[:, 1:] += 1
    second = layer(query, boxes, tokens, SHAPES, query, blocked)
    torch.testing.assert_close(first[:, 0], second[:, 0])
    assert not torch.allclose(first[:, 1], second[:, 1])


def test_heads_must_share_the_width():
    with pytest.raises(ValueError, match="30 channels"):
        MSDeformAttn(30, heads=4)
