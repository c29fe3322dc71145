"""Denoising queries: how far they move, what they stand for, and who may look at whom."""

from __future__ import annotations

import torch

from sightline.losses.denoising import make_denoising
from sightline.losses.targets import TargetRows

CPU = torch.device("cpu")


def targets(*counts: int) -> TargetRows:
    generator = torch.Generator().manual_seed(0)
    image = torch.tensor([index for index, count in enumerate(counts) for _ in range(count)], dtype=torch.long)
    # Far from the edges, where nothing is clipped.
    boxes = torch.rand(len(image), 4, generator=generator) * 0.1 + torch.tensor([0.4, 0.4, 0.1, 0.1])
    return TargetRows(image, torch.randint(0, 9, (len(image),), generator=generator), boxes, list(counts))


def corners(boxes: torch.Tensor) -> torch.Tensor:
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def test_positives_stay_near_and_negatives_do_not():
    rows = targets(3, 0, 2)
    made = make_denoising(rows, nc=9, most=60, device=CPU, label_noise=0)
    assert (made.groups, made.group_size, made.count) == (20, 3, 120)
    assert len(made.target) == 20 * 5
    noisy = corners(made.boxes[made.image, made.query].sigmoid())
    wanted = rows.boxes[made.target]
    moved = (noisy - corners(wanted)).abs() / (wanted[:, 2:] / 2).repeat(1, 2)
    assert moved.max() <= 1 + 1e-4
    assert 0.4 < moved.mean() < 0.6
    of_negatives = made.boxes[made.image, made.query + made.group_size].sigmoid()
    moved = (corners(of_negatives) - corners(wanted)).abs() / (wanted[:, 2:] / 2).repeat(1, 2)
    moved = moved[(of_negatives[:, 2:] > 1e-5).all(-1)]  # sides that pass each other leave a box of no size
    assert len(moved) > 20
    assert moved.min() >= 1 - 1e-4
    assert moved.max() <= 2 + 1e-4
    assert made.labels[made.image, made.query].equal(rows.labels[made.target])
    assert made.labels[made.image, made.query + made.group_size].equal(rows.labels[made.target])


def test_padding_is_marked():
    made = make_denoising(targets(3, 0, 2), nc=9, most=6, device=CPU)
    assert (made.labels[1] == -1).all()
    assert not made.boxes[1].any()
    assert (made.labels[2].view(-1, 3) == -1).tolist() == [[False, False, True]] * 4
    assert (made.labels[0] >= 0).all()


def test_a_quarter_of_the_labels_is_replaced():
    torch.manual_seed(0)
    rows = targets(50)
    made = make_denoising(rows, nc=9, most=5000, device=CPU)
    changed = (made.labels[made.image, made.query] != rows.labels[made.target]).float().mean()
    assert abs(float(changed) - 0.25 * 8 / 9) < 0.03  # one in nine draws the label that was there


def test_of_a_crowded_image_a_part_is_taken():
    rows = targets(8, 2)
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        made = make_denoising(rows, nc=9, most=4, device=CPU)
        assert (made.groups, made.group_size) == (1, 4)
        of_first = made.target[made.image == 0].tolist()
        assert len(set(of_first)) == 4
        assert made.target[made.image == 1].tolist() == [8, 9]
        seen |= set(of_first)
    assert seen == set(range(8))


def test_nothing_to_copy():
    assert make_denoising(targets(0, 0), nc=9, most=100, device=CPU) is None
    assert make_denoising(targets(2), nc=9, most=0, device=CPU) is None


def test_who_may_look_at_whom():
    made = make_denoising(targets(2, 1), nc=9, most=5, device=CPU)
    assert (made.groups, made.group_size) == (2, 2)
    blocked = made.blocked(3)
    kinds = [0, 0, 0, 0, 1, 1, 1, 1, "query", "query", "query"]  # a group is two positives and two negatives
    for row, looking in enumerate(kinds):
        for column, at in enumerate(kinds):
            assert bool(blocked[row, column]) == (at != "query" and at != looking), (row, column)
