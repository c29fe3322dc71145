"""What this process is doing at the moment, in plain words, for the watchdog that looks at it from another thread.

Writing it costs less than a microsecond and takes no lock, so it may stand in the training loop.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import NamedTuple


class Beat(NamedTuple):
    """One sign of life.

    place: numbers that grow as a run goes on, the same on all ranks; who has the smallest is behind.
    where: in the run, in words: "epoch 3, batch 14".
    stage: what it does there, in words.
    patient: whether this may take minutes (a file on a slow disk, numbers of a large data set).
    moment: `time.monotonic()`.
    """

    place: tuple[int, ...] = ()
    where: str = "start"
    stage: str = "set-up"
    patient: bool = True
    moment: float = 0.0


class Pulse:
    """The last beat of this process, and whether it waits for other ranks.

    Attributes:
        warm: whether the first batch is done, before which everything may take long.
        longest: seconds, between two beats that were not patient.
    """

    def __init__(self) -> None:
        self.last = Beat(moment=time.monotonic())
        self.longest = 0.0
        self.waits = False
        self.warm = False

    def reset(self) -> None:
        """A new run begins."""
        self.last, self.longest, self.waits, self.warm = Beat(moment=time.monotonic()), 0.0, False, False

    def beat(
        self, stage: str, *, where: str | None = None, place: tuple[int, ...] | None = None, patient: bool = False
    ) -> None:
        """Say what begins now. Without a place it is where the last beat was."""
        before, now = self.last, time.monotonic()
        if not before.patient:
            self.longest = max(self.longest, now - before.moment)
        place, where = before.place if place is None else place, before.where if where is None else where
        self.last = Beat(place, where, stage, patient, now)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what cannot end before the other ranks come to the same point."""
        self.waits = True
        try:
            yield
        finally:
            self.waits = False
            self.last = self.last._replace(moment=time.monotonic())  # nobody is slow for having waited


PULSE = Pulse()
