"""Suppression against an obvious version of it: one box at a time, compared with every box kept so far."""

from __future__ import annotations

import pytest
import torch

from sightline.ops import nms
from sightline.ops.nms import (
    greedy_keep,
    non_max_suppression,
    non_max_suppression_with_anchors,
    select_end_to_end,
    top_k_end_to_end,
)


def _overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def _obvious(boxes, scores, iou, groups=None) -> list[int]:
    boxes, kept = boxes.double().tolist(), []
    for i in sorted(range(len(boxes)), key=lambda i: (-float(scores[i]), i)):
        rivals = [k for k in kept if groups is None or groups[k] == groups[i]]
        if all(_overlap(boxes[i], boxes[k]) <= iou for k in rivals):
            kept.append(i)
    return kept


def _crowd(count: int, seed: int, size: float = 100.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    near = torch.rand(count, 2, generator=generator) * size
    return torch.cat([near, near + 5 + torch.rand(count, 2, generator=generator) * 30], dim=1)


@pytest.mark.parametrize("iou", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("count", [0, 1, 2, 60, 400])
def test_keeps_what_the_obvious_version_keeps(count, iou, monkeypatch):
    monkeypatch.setattr(nms, "BLOCK", 64)  # several blocks
    boxes = _crowd(count, count)
    scores = torch.rand(count, generator=torch.Generator().manual_seed(7))
    classes = torch.randint(0, 3, (count,), generator=torch.Generator().manual_seed(8))
    assert greedy_keep(boxes, scores, iou).tolist() == _obvious(boxes, scores, iou)
    assert greedy_keep(boxes, scores, iou, groups=classes).tolist() == _obvious(boxes, scores, iou, classes.tolist())
    expected = _obvious(boxes, scores, iou)[:5]
    assert greedy_keep(boxes, scores, iou, max_keep=5).tolist() == expected


def test_a_long_chain_is_settled_in_order():
    """Each box overlaps only its neighbours: the first stays, the second goes, the third stays, …"""
    near = torch.arange(0, 300, dtype=torch.float32) * 4
    boxes = torch.stack([near, torch.zeros(300), near + 10, torch.ones(300)], dim=1)
    assert greedy_keep(boxes, -near, 0.3).tolist() == list(range(0, 300, 2))


def test_equal_scores_keep_the_order_given():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 3 + [[50.0, 50.0, 60.0, 60.0]])
    assert greedy_keep(boxes, torch.full((4,), 0.5), 0.5).tolist() == [0, 3]


def test_far_coordinates_and_many_classes_do_not_mix():
    """Shifting boxes by class, the usual trick, fails here: the shift of one class lands on another's coordinates."""
    boxes = torch.tensor([[7680.0, 0.0, 7780.0, 100.0], [0.0, 0.0, 100.0, 100.0]])
    assert greedy_keep(boxes, torch.tensor([0.9, 0.8]), 0.5, groups=torch.tensor([0, 1])).tolist() == [0, 1]


def _prediction(batch: int, nc: int, anchors: int, extra: int = 0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(batch, 4, anchors, generator=generator) * 60 + 10
    scores = torch.rand(batch, nc, anchors, generator=generator) ** 3
    return torch.cat([boxes, scores, torch.rand(batch, extra, anchors, generator=generator)], dim=1)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("nc", [1, 4])
def test_rows_of_a_head(nc, agnostic, multi_label):
    prediction = _prediction(2, nc, 90, extra=2)
    rows, anchors = non_max_suppression_with_anchors(
        prediction, nc=nc, conf=0.2, iou=0.5, agnostic=agnostic, multi_label=multi_label, max_det=40
    )
    for image in range(2):
        candidates = []  # (x1, y1, x2, y2, score, class, extra, extra, anchor)
        for anchor, column in enumerate(prediction[image].t()):
            x, y, width, height = column[:4]
            classes = range(nc) if multi_label else [int(column[4 : 4 + nc].argmax())]
            corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
            candidates += [
                [*corners, column[4 + c], c, *column[4 + nc :], anchor] for c in classes if column[4 + c] > 0.2
            ]
        table = torch.tensor(candidates)
        groups = None if agnostic else table[:, 5].tolist()
        expected = table[_obvious(table[:, :4], table[:, 4], 0.5, groups)][:40]
        torch.testing.assert_close(rows[image], expected[:, :8])
        assert anchors[image].tolist() == expected[:, 8].tolist()
        assert len(rows[image]) > 3


def test_settings_that_limit():
    prediction = _prediction(1, 4, 90)

    def run(**settings):
        return non_max_suppression(prediction, nc=4, **{"conf": 0.1, "iou": 0.5, **settings})[0]

    everything = run()
    torch.testing.assert_close(run(max_det=3), everything[:3])
    assert set(run(classes=[1, 3], multi_label=True)[:, 5].tolist()) == {1.0, 3.0}
    assert len(run(max_nms=10)) <= 10
    assert run(conf=2.0).shape == (0, 6)
    assert run(classes=[]).shape == (0, 6)


def test_a_score_at_the_limit_is_not_above_it():
    prediction = torch.tensor([[[10.0], [10.0], [4.0], [4.0], [0.5]]])
    assert len(non_max_suppression(prediction, nc=1, conf=0.5)[0]) == 0
    assert len(non_max_suppression(prediction, nc=1, conf=0.49)[0]) == 1
    rows = torch.tensor([[[0.0, 0.0, 1.0, 1.0, 0.5, 0.0]]])
    assert len(select_end_to_end(rows, conf=0.5)[0]) == 0


def test_half_precision_overlaps_are_computed_in_single():
    """At x = 3000 float16 steps are 2 px; rows must not be suppressed by rounding of the corners."""
    prediction = _prediction(1, 2, 50).half()
    rows = non_max_suppression(prediction, nc=2, conf=0.2, iou=0.5)[0]
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, non_max_suppression(prediction.float(), nc=2, conf=0.2, iou=0.5)[0])


def test_no_images_and_no_anchors():
    assert non_max_suppression(torch.zeros(0, 6, 10), nc=2) == []
    assert non_max_suppression(torch.zeros(1, 6, 0), nc=2)[0].shape == (0, 6)


def test_top_k_takes_the_best_pairs_of_the_best_anchors():
    decoded = _prediction(2, 3, 20, extra=1).transpose(1, 2)
    rows = top_k_end_to_end(decoded, 3, max_det=6)
    assert rows.shape == (2, 6, 7)
    for image in range(2):
        scores = decoded[image, :, 4:7]
        best = sorted(range(20), key=lambda a: -float(scores[a].max()))[:6]
        pairs = sorted(((float(scores[a, c]), a, c) for a in best for c in range(3)), reverse=True)[:6]
        for row, (score, anchor, class_) in zip(rows[image], pairs, strict=True):
            expected = [*decoded[image, anchor, :4], score, class_, decoded[image, anchor, 7]]
            torch.testing.assert_close(row, torch.tensor(expected))


def test_top_k_agnostic_takes_each_anchor_once():
    decoded = _prediction(1, 3, 20).transpose(1, 2)
    rows = top_k_end_to_end(decoded, 3, max_det=50, agnostic=True)
    assert rows.shape == (1, 20, 6)  # no more rows than anchors
    best, class_ = decoded[0, :, 4:].max(1)
    order = best.argsort(descending=True)
    torch.testing.assert_close(rows[0, :, 4], best[order])
    assert rows[0, :, 5].tolist() == class_[order].tolist()


def test_select_filters_and_cuts():
    rows = torch.zeros(1, 5, 6)
    rows[0, :, 4] = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.1])
    rows[0, :, 5] = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0])
    assert select_end_to_end(rows, conf=0.5)[0][:, 4].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert select_end_to_end(rows, conf=0.5, classes=[1])[0][:, 4].tolist() == pytest.approx([0.8, 0.6])
    assert len(select_end_to_end(rows, conf=0.5, max_det=2)[0]) == 2
