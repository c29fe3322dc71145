"""Batches put together and taken apart."""

from __future__ import annotations

import torch

from sightline.data.collate import first_images, join_batches, split_batch


def test_batches_are_joined_in_order():
    """The way back from `split_batch`."""
    batch = {
        "img": torch.arange(5 * 3 * 2 * 2, dtype=torch.uint8).reshape(5, 3, 2, 2),
        "cls": torch.arange(7.0)[:, None],
        "bboxes": torch.rand(7, 4),
        "batch_idx": torch.tensor([0.0, 0, 1, 3, 3, 4, 4]),
        "im_file": ("a", "b", "c", "d", "e"),
        "note": "of the whole",
    }
    joined = join_batches(split_batch(batch, 2))
    assert joined.keys() == batch.keys()
    for name, value in batch.items():
        assert torch.equal(joined[name], value) if torch.is_tensor(value) else joined[name] == value
    first = first_images(joined, 4)
    assert first["im_file"] == ("a", "b", "c", "d")
    assert first["batch_idx"].tolist() == [0, 0, 1, 3, 3]
