"""Samples → batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import default_collate

STACKED = ("img",)
JOINED = ("cls", "bboxes", "keypoints")


@dataclass(frozen=True, slots=True)
class Failure:
    """An error on its way from a worker process to the loader, which raises it there without the worker's traceback."""

    error: Exception


def collate(rows: Sequence[dict[str, Any] | Failure]) -> dict[str, Any] | Failure:
    """Rows as `to_tensors` makes them → one batch.

    Returns:
        img (B, C, H, W) uint8; cls (N, 1), bboxes (N, 4), batch_idx (N,), all float32, where N counts the objects of
        all B images and batch_idx says which image each belongs to; tuples of length B for everything else.
    """
    for row in rows:
        if isinstance(row, Failure):
            return row
    samples = [row for row in rows if isinstance(row, dict)]
    batch: dict[str, Any] = {}
    for key in samples[0]:
        values = [sample[key] for sample in samples]
        if key in STACKED:
            batch[key] = default_collate(values)  # in a worker process straight into shared memory
        elif key in JOINED:
            batch[key] = torch.cat(values)
        elif key == "batch_idx":
            batch[key] = torch.cat([value + i for i, value in enumerate(values)])
        else:
            batch[key] = tuple(values)
    return batch
