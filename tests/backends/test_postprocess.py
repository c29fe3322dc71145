"""One step from decoded output to boxes, for both kinds of heads."""

from __future__ import annotations

import torch

from sightline.backends.postprocess import detections


def test_rows_of_an_nms_free_head_are_filtered_only():
    rows = torch.tensor([[[0, 0, 9, 9, 0.9, 1], [0, 0, 9, 9, 0.8, 1], [1, 1, 5, 5, 0.7, 0], [0, 0, 1, 1, 0.1, 0]]])
    kept = detections(rows, end2end=True, nc=2, conf=0.25)[0]
    torch.testing.assert_close(kept, rows[0, :3])  # the double is the head's own business
    assert detections(rows, end2end=True, nc=2, conf=0.25, classes=[0])[0][:, 4].tolist() == [0.699999988079071]
    assert len(detections(rows, end2end=True, nc=2, conf=0.25, max_det=1)[0]) == 1


def test_the_other_head_is_suppressed():
    # (1, 4 + 2, 3): two boxes on top of each other and one apart, centre and size
    columns = [[5, 5, 10, 10, 0.9, 0.3], [5, 5, 10, 9, 0.8, 0.0], [50, 50, 10, 10, 0.6, 0.0]]
    decoded = torch.tensor(columns).t()[None]
    kept = detections(decoded, end2end=False, nc=2, conf=0.25)[0]
    assert kept[:, 5].tolist() == [0, 0]
    torch.testing.assert_close(kept[:, 4], torch.tensor([0.9, 0.6]))
    both = detections(decoded, end2end=False, nc=2, conf=0.25, multi_label=True)[0]
    assert sorted(both[:, 5].tolist()) == [0, 0, 1]
