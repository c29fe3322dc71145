"""The assigner against a dense, slow, literal one: tables over targets and anchors, loops, no shortcuts."""

from __future__ import annotations

import math

import pytest
import torch

from sightline.losses.assign import candidates, task_aligned
from sightline.losses.assign.task_aligned import TaskAlignedAssigner
from sightline.ops.anchors import make_anchors

STRIDES = [8.0, 16.0, 32.0]
NAMES = ("labels", "boxes", "scores", "fg", "gt index")


def _ciou(a: list[float], b: list[float]) -> float:
    eps = 1e-7
    aw, ah, bw, bh = a[2] - a[0], a[3] - a[1] + eps, b[2] - b[0], b[3] - b[1] + eps
    inter = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    iou = inter / (aw * ah + bw * bh - inter + eps)
    diagonal = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2 + eps
    distance = ((b[0] + b[2] - a[0] - a[2]) ** 2 + (b[1] + b[3] - a[1] - a[3]) ** 2) / 4
    v = 4 / math.pi**2 * (_slope(bw, bh) - _slope(aw, ah)) ** 2
    return iou - (distance / diagonal + v * (v / (1 - iou + v + eps)))


def _slope(width: float, height: float) -> float:
    return math.atan(width / height)


def _dense_one_image(scores, boxes, points, labels, targets, *, topk, topk2, floor):
    """Lists of one image; targets are the valid ones, with their rows. Returns {anchor: (target, score)}."""
    count, anchors = len(targets), len(points)
    inside = [[False] * anchors for _ in range(count)]
    overlap = [[0.0] * anchors for _ in range(count)]
    metric = [[0.0] * anchors for _ in range(count)]
    for t, box in enumerate(targets):
        x1, y1, x2, y2 = box
        if x2 - x1 < floor:
            x1, x2 = (x1 + x2) / 2 - floor / 2, (x1 + x2) / 2 + floor / 2
        if y2 - y1 < floor:
            y1, y2 = (y1 + y2) / 2 - floor / 2, (y1 + y2) / 2 + floor / 2
        for a, (x, y) in enumerate(points):
            if min(x - x1, y - y1, x2 - x, y2 - y) > 1e-9:
                inside[t][a] = True
                overlap[t][a] = max(0.0, _ciou(box, boxes[a]))
                metric[t][a] = scores[a][labels[t]] ** 0.5 * overlap[t][a] ** 6

    def best(rows, k):
        return [{a for a in sorted(range(anchors), key=lambda a: (-row[a], a))[:k] if row[a] > 0} for row in rows]

    positive = best(metric, topk)
    for a in range(anchors):
        if sum(a in picks for picks in positive) > 1:
            winner = max((t for t in range(count) if inside[t][a]), key=lambda t: (overlap[t][a], -t))
            for t in range(count):
                positive[t].discard(a)
            positive[winner].add(a)
    if topk2 != topk:
        masked = [[metric[t][a] if a in positive[t] else 0.0 for a in range(anchors)] for t in range(count)]
        positive = [kept & positive[t] for t, kept in enumerate(best(masked, topk2))]
    result = {}
    for t, picks in enumerate(positive):
        if picks:
            top_metric, top_overlap = max(metric[t][a] for a in picks), max(overlap[t][a] for a in picks)
            result.update({a: (t, metric[t][a] * top_overlap / (top_metric + 1e-9)) for a in picks})
    return result


def _dense(scores, boxes, points, labels, targets, mask, **settings):
    images, anchors, classes = scores.shape
    rows = torch.zeros(images, anchors, dtype=torch.long)
    fg = torch.zeros(images, anchors, dtype=torch.bool)
    table = torch.zeros(images, anchors, classes, dtype=scores.dtype)
    for b in range(images):
        slots = mask[b, :, 0].nonzero().squeeze(1).tolist()
        found = _dense_one_image(
            scores[b].tolist(),
            boxes[b].tolist(),
            points.tolist(),
            [int(labels[b, slot, 0]) for slot in slots],
            [targets[b, slot].tolist() for slot in slots],
            floor=STRIDES[1],
            **settings,
        )
        for anchor, (t, score) in found.items():
            rows[b, anchor], fg[b, anchor] = slots[t], True
            table[b, anchor, int(labels[b, slots[t], 0])] = score
    target_labels = labels[..., 0].long().gather(1, rows)
    return target_labels, targets.gather(1, rows[..., None].expand(-1, -1, 4)), table, fg, rows


def _situation(kind: str, seed: int, images: int = 2, slots: int = 12):
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    shapes = [(8, 12), (4, 6), (2, 3)]
    points, strides = make_anchors(shapes, STRIDES, dtype=torch.float64)
    points = points * strides
    largest = {"tiny": 9.0, "mixed": 70.0, "crowded": 40.0, "duplicates": 60.0}[kind]
    area = torch.tensor([25.0, 25.0] if kind == "crowded" else [80.0, 50.0], dtype=torch.float64)
    near = rand(images, slots, 2) * area
    targets = torch.cat([near, near + 1.5 + rand(images, slots, 2) * largest], dim=-1)
    labels = (rand(images, slots, 1) * 4).floor()
    if kind == "duplicates":
        targets[:, slots // 2 :] = targets[:, : slots // 2]
        labels[:, slots // 2 :: 2] = labels[:, : slots // 2 : 2]  # some of them in another class
    # Predictions near random targets, so that many pairs compete; some exactly equal.
    pick = (rand(images, len(points)) * slots).long()
    noise = 12
    if kind == "tiny":  # a random target would overlap no prediction of the anchors inside it
        centres = (targets[..., :2] + targets[..., 2:]) / 2
        pick, noise = torch.cdist(points.expand(images, -1, -1), centres).argmin(-1), 3
    boxes = targets.gather(1, pick[..., None].expand(-1, -1, 4)) + (rand(images, len(points), 4) - 0.5) * noise
    boxes[:, 10:20] = boxes[:, 10:11]
    scores = rand(images, len(points), 4)
    scores[:, 10:20] = scores[:, 10:11]
    mask = torch.ones(images, slots, 1, dtype=torch.float64)
    mask[-1, slots - 3 :] = 0
    return scores, boxes, points, labels * mask, targets * mask, mask


def _assert_equal(actual, expected):
    for name, one, other in zip(NAMES, actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("free", [True, False], ids=["exact lengths", "fixed lengths"])
@pytest.mark.parametrize(("topk", "topk2"), [(10, 10), (7, 1), (3, 2), (1, 1)])
@pytest.mark.parametrize("kind", ["mixed", "tiny", "crowded", "duplicates"])
def test_equals_the_dense_assigner(kind, topk, topk2, free, monkeypatch):
    """With fixed lengths as they are used on a GPU, too: nothing else there differs."""
    for module in (candidates, task_aligned):
        monkeypatch.setattr(module, "lengths_are_free", lambda tensor: free)
    for seed in range(2):
        inputs = _situation(kind, seed)
        assigner = TaskAlignedAssigner(topk=topk, topk2=topk2, num_classes=4, alpha=0.5, beta=6.0, stride=STRIDES)
        actual, expected = assigner(*inputs), _dense(*inputs, topk=topk, topk2=topk2)
        assert expected[3].sum() > 5
        _assert_equal(actual, expected)


def test_points_in_any_order_give_the_same_assignment():
    scores, boxes, points, labels, targets, mask = _situation("mixed", 3)
    assigner = TaskAlignedAssigner(topk=5, num_classes=4, alpha=0.5, stride=STRIDES)
    scores[:, 10:20] = torch.rand(2, 10, 4, dtype=torch.float64)  # no ties, which the order would decide
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))
    expected = assigner(scores, boxes, points, labels, targets, mask)
    shuffled = assigner(scores[:, order], boxes[:, order], points[order], labels, targets, mask)
    _assert_equal(shuffled, [part[:, order] for part in expected])


def test_order_and_gaps_of_targets_do_not_matter():
    scores, boxes, points, labels, targets, mask = _situation("mixed", 4)
    assigner = TaskAlignedAssigner(topk=5, num_classes=4, alpha=0.5, stride=STRIDES)
    expected = assigner(scores, boxes, points, labels, targets, mask)
    order = torch.tensor([11, 3, 0, 7, 1, 9, 2, 8, 10, 6, 5, 4])  # padding comes to lie between targets
    actual = assigner(scores, boxes, points, labels[:, order], targets[:, order], mask[:, order])
    torch.testing.assert_close(actual[2], expected[2])
    assert torch.equal(actual[3], expected[3])
    assert torch.equal(order[actual[4]][actual[3]], expected[4][actual[3]])


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("slots", [0, 4])
def test_no_targets(slots, free, monkeypatch):
    for module in (candidates, task_aligned):
        monkeypatch.setattr(module, "lengths_are_free", lambda tensor: free)
    scores, boxes, points, *_ = _situation("mixed", 0)
    empty = torch.zeros(2, slots, 4, dtype=torch.float64)
    labels, target_boxes, target_scores, fg, rows = TaskAlignedAssigner(num_classes=4, stride=STRIDES)(
        scores, boxes, points, empty[..., :1], empty, empty[..., :1]
    )
    assert not fg.any()
    assert not target_scores.any()
    assert not target_boxes.any()
    assert not rows.any()
    assert (labels == (0 if slots else 4)).all()


def test_targets_beside_the_image_have_no_anchor(monkeypatch):
    scores, boxes, points, labels, targets, mask = _situation("mixed", 0)
    for free in (True, False):
        for module in (candidates, task_aligned):
            monkeypatch.setattr(module, "lengths_are_free", lambda tensor, free=free: free)
        outputs = TaskAlignedAssigner(num_classes=4, stride=STRIDES)(
            scores, boxes, points, labels, targets + 5000, mask
        )
        assert not outputs[3].any()


def test_a_target_with_a_negative_corner_sum_is_still_a_target():
    """Only its count makes a row padding; the sum of its corners says nothing."""
    scores, boxes, points, *_ = _situation("mixed", 0)
    targets = torch.tensor([[[-60.0, -60.0, 40.0, 40.0]]], dtype=torch.float64)
    boxes[:1] = targets
    outputs = TaskAlignedAssigner(topk=4, num_classes=4, stride=STRIDES)(
        scores[:1], boxes[:1], points, torch.zeros(1, 1, 1), targets, torch.ones(1, 1, 1)
    )
    assert int(outputs[3].sum()) == 4


def test_half_precision_predictions_keep_small_overlaps():
    """0.05⁶ is 0 in float16; the metric must not be computed there."""
    points, strides = make_anchors([(8, 8)], [8.0])
    target = torch.tensor([[[0.0, 0.0, 60.0, 60.0]]])
    boxes = torch.tensor([24.0, 24.0, 40.0, 40.0]).expand(1, 64, 4)  # an overlap of 0.07
    scores = torch.full((1, 64, 1), 0.01)
    settings = {"topk": 5, "num_classes": 1, "alpha": 0.5, "stride": [8.0]}
    half = TaskAlignedAssigner(**settings)(
        scores.half(), boxes.half(), points * strides, torch.zeros(1, 1, 1), target, torch.ones(1, 1, 1)
    )
    assert int(half[3].sum()) == 5
    assert (half[2][half[3]] > 0.05).all()


def test_a_broken_prediction_is_not_picked():
    scores, boxes, points, labels, targets, mask = _situation("mixed", 1)
    boxes[:, ::3], scores[:, 1::3] = float("nan"), float("nan")
    outputs = TaskAlignedAssigner(topk=10, num_classes=4, alpha=0.5, stride=STRIDES)(
        scores, boxes, points, labels, targets, mask
    )
    assert not outputs[3][:, ::3].any()
    assert not outputs[3][:, 1::3].any()
    assert outputs[3].any()
    assert outputs[2].isfinite().all()
