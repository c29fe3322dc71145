"""The matching against all possible ones, and its costs against the formulas."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from sightline.losses.assign.hungarian import HungarianMatcher
from sightline.losses.targets import TargetRows
from sightline.ops.iou import matched_iou


def scene(counts: list[int], *, queries: int = 5, layers: int = 2) -> tuple[torch.Tensor, torch.Tensor, TargetRows]:
    generator = torch.Generator().manual_seed(0)
    total = sum(counts)
    image = torch.tensor([index for index, count in enumerate(counts) for _ in range(count)], dtype=torch.long)
    labels = torch.randint(0, 3, (total,), generator=generator)
    rows = TargetRows(image, labels, torch.rand(total, 4, generator=generator) * 0.5 + 0.1, counts)
    boxes = torch.rand(layers, len(counts), queries, 4, generator=generator) * 0.5 + 0.1
    return boxes, torch.randn(layers, len(counts), queries, 3, generator=generator), rows


def cost_by_hand(box: torch.Tensor, scores: torch.Tensor, target: torch.Tensor, label: int) -> float:
    p = float(scores[label].sigmoid())
    class_ = 0.25 * (1 - p) ** 2 * -math.log(p + 1e-8) - 0.75 * p**2 * -math.log(1 - p + 1e-8)
    overlap = float(matched_iou(box[None], target[None], "giou", xywh=True))
    return 2 * class_ + 5 * float((box - target).abs().sum()) + 2 * (1 - overlap)


@pytest.mark.parametrize("counts", [[3, 0, 2], [1, 5], [7, 2]], ids=str)  # the last with more targets than queries
def test_the_cheapest_of_all_matchings(counts: list[int]):
    boxes, scores, targets = scene(counts)
    matches = HungarianMatcher()(boxes, scores, targets)
    first = [0, *itertools.accumulate(counts)]
    for layer, image in itertools.product(range(2), range(len(counts))):
        here = (matches.layer == layer) & (matches.image == image)
        found = list(zip(matches.query[here].tolist(), matches.target[here].tolist(), strict=True))
        assert [query for query, _ in found] == sorted({query for query, _ in found})
        assert len({target for _, target in found}) == len(found) == min(5, counts[image])

        prices = [
            [
                cost_by_hand(boxes[layer, image, q], scores[layer, image, q], targets.boxes[t], int(targets.labels[t]))
                for t in range(len(targets.labels))
            ]
            for q in range(5)
        ]

        def price(pairs, prices=prices) -> float:
            return sum(prices[q][t] for q, t in pairs)

        of_image = range(first[image], first[image] + counts[image])
        if counts[image] <= 5:
            others = (zip(each, of_image, strict=True) for each in itertools.permutations(range(5), counts[image]))
        else:
            others = (zip(range(5), each, strict=True) for each in itertools.permutations(of_image, 5))
        assert price(found) == pytest.approx(min(price(list(each)) for each in others), abs=1e-5)


def test_no_targets():
    matches = HungarianMatcher()(*scene([0, 0]))
    assert [len(each) for each in matches] == [0, 0, 0, 0]


def test_a_broken_prediction_is_the_last_choice():
    """A cost of zero, which the reference gives it, would be the cheapest."""
    boxes, scores, targets = scene([4, 4])
    boxes[:, :, 2] = math.nan
    scores[:, :, 2] = math.inf
    matches = HungarianMatcher()(boxes, scores, targets)
    assert 2 not in matches.query.tolist()
    assert len(matches.query) == 16


def test_costs_of_half_precision_are_computed_in_float32():
    boxes, scores, targets = scene([2, 3])
    labels, padded = targets.padded()
    assert padded.shape == (2, 3, 4)
    boxes, scores = boxes.bfloat16(), scores.bfloat16()
    half = HungarianMatcher().costs(boxes, scores, labels, padded)
    assert half.dtype == torch.float32
    assert torch.equal(half, HungarianMatcher().costs(boxes.float(), scores.float(), labels, padded))
    assert HungarianMatcher().costs(boxes.double(), scores.double(), labels, padded).dtype == torch.float64
