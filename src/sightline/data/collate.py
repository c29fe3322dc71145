"""Samples → batch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import default_collate

STACKED = ("img",)
JOINED = ("cls", "bboxes", "keypoints")


@dataclass(frozen=True, slots=True)
class Failure:
    """An error on its way from a worker process to the loader, which raises it there without the worker's traceback.

    Attributes:
        unreadable: (path, reason) of every image, where a whole batch has none that can be read.
    """

    error: Exception
    unreadable: tuple[tuple[str, str], ...] = ()


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


def join_batches(batches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several batches → one, with their images in order. What belongs to no image or object is that of the first."""
    counts = [len(batch["img"]) for batch in batches]
    starts = [0, *itertools.accumulate(counts)]
    joined = dict(batches[0])
    for name, value in batches[0].items():
        values = [batch[name] for batch in batches]
        if name == "batch_idx":
            joined[name] = torch.cat([value + start for value, start in zip(values, starts, strict=False)])
        elif name in STACKED + JOINED or (torch.is_tensor(value) and value.ndim and len(value) == counts[0]):
            joined[name] = torch.cat(values)
        elif isinstance(value, tuple | list) and len(value) == counts[0]:
            joined[name] = tuple(itertools.chain.from_iterable(values))
    return joined


def first_images(batch: dict[str, Any], count: int) -> dict[str, Any]:
    """The first images of a batch, with what belongs to them."""
    return _cut(batch, 0, count)


def split_batch(batch: dict[str, Any], size: int, *, at_least: int = 1) -> list[dict[str, Any]]:
    """The way back from a batch to several of at most `size` images, as even as can be, in the same order.

    Entries that are neither one for each image nor one for each object are given to every piece.

    Args:
        at_least: so many pieces; if there are fewer images, some have none.
    """
    count = len(batch["img"])
    pieces = max(-(-count // size), at_least)
    bounds = [count * piece // pieces for piece in range(pieces + 1)]
    return [_cut(batch, first, last) for first, last in itertools.pairwise(bounds)]


def _cut(batch: dict[str, Any], first: int, last: int) -> dict[str, Any]:
    owner, count = batch.get("batch_idx"), len(batch["img"])
    mine = None if owner is None else (owner >= first) & (owner < last)
    piece: dict[str, Any] = {}
    for name, value in batch.items():
        sized = isinstance(value, torch.Tensor | list | tuple) and not (torch.is_tensor(value) and value.ndim == 0)
        if name == "batch_idx" and mine is not None:
            piece[name] = value[mine] - first
        elif torch.is_tensor(value) and mine is not None and sized and name not in STACKED and len(value) == len(mine):
            # As many objects as images: only a name that is known to hold one row an object says which it is.
            by_object = len(mine) != count or name in JOINED
            piece[name] = value[mine] if by_object else value[first:last]
        elif sized and len(value) == count:
            piece[name] = value[first:last]
        else:
            piece[name] = value
    return piece
