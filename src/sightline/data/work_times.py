"""How long batches took to prepare, told apart: reading (decode and first resize, or the cache) and augmenting (all the
rest). Measured where it happens, in worker processes or threads, and carried by the batch, so nobody waits for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

KEY = "work_times"  # of a batch on its way from the workers: (seconds of reading, seconds of all)


class _OfThread(threading.local):
    """Of the batch that a thread is making."""

    began: float | None = None
    read = 0.0


_batch = _OfThread()


def batch_begins() -> None:
    _batch.began, _batch.read = time.perf_counter(), 0.0


@contextmanager
def reading() -> Iterator[None]:
    """Around what brings pixels."""
    began = time.perf_counter()
    try:
        yield
    finally:
        _batch.read += time.perf_counter() - began


def collate_timed(collate: Callable[[Sequence[Any]], Any], rows: Sequence[Any]) -> Any:
    """`collate(rows)`, with the times of the batch where they are known: a user's data set need not measure."""
    batch = collate(rows)
    if isinstance(batch, dict) and _batch.began is not None:
        batch[KEY] = (_batch.read, time.perf_counter() - _batch.began)
        _batch.began = None
    return batch


class WorkTimes:
    """Sums over the batches of an epoch, in seconds of work: with several workers more than go by on the clock."""

    def __init__(self) -> None:
        self.load = self.augment = 0.0

    def take_from(self, batch: dict[str, Any]) -> None:
        """Add what a batch carries, and remove it there."""
        read, total = batch.pop(KEY, (0.0, 0.0))
        self.load += read
        self.augment += total - read

    def take(self) -> dict[str, float]:
        """ "load" and "augment" since the last call."""
        found = {"load": self.load, "augment": self.augment}
        self.load = self.augment = 0.0
        return found
