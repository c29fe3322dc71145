"""Label smoothing: by hand, as a table and as a list."""

from __future__ import annotations

import torch

from sightline.losses.terms.smoothing import smooth_places, smooth_table


def test_by_hand():
    table = torch.tensor([[0.0, 0.8, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])  # a positive, and background
    expected = torch.tensor([[0.02, 0.74, 0.02, 0.02], [0.0, 0.0, 0.0, 0.0]])  # 0.9 · 0.8 + 0.1 · 0.8 / 4 = 0.74
    torch.testing.assert_close(smooth_table(table, 0.1), expected)


def test_the_list_is_the_table_and_keeps_its_sum():
    generator = torch.Generator().manual_seed(0)
    image, class_, anchor = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 1]), torch.tensor([4, 0, 3])
    score = torch.rand(3, generator=generator)
    table = torch.zeros(2, 5, 3)  # (B, A, C)
    table[image, anchor, class_] = score
    listed = smooth_places(image, class_, anchor, score, 3, 0.3)
    again = torch.zeros(2, 5, 3)
    again.index_put_((listed[0], listed[2], listed[1]), listed[3], accumulate=True)
    torch.testing.assert_close(again, smooth_table(table, 0.3))
    torch.testing.assert_close(again.sum(), score.sum())


def test_no_positives():
    none = torch.zeros(0, dtype=torch.long)
    assert [len(part) for part in smooth_places(none, none, none, torch.zeros(0), 3, 0.1)] == [0, 0, 0, 0]
