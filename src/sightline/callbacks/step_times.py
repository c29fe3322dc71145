"""How long the parts of a training step take, epoch by epoch: waiting for batches, forward, backward, optimizer.

On a GPU the clock is the device's own: moments are put into its queue and read when the epoch is over, so nobody waits
for them, and waiting for batches is only what left the device idle. The backward pass of a batch that is cut into
pieces (`MicroBatches`) has the forward passes of all pieces but the first in it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch

PARTS = ("wait for batches", "forward", "backward", "optimizer")
STEPS_AT_MOST = 100  # of an epoch are timed; the rest is taken to be like them


class StepTimes:
    """Collects the moments of some steps; `finish` turns them into seconds.

    Args:
        device: where the steps run.
        batches: of the epoch.
    """

    def __init__(self, device: torch.device, batches: int) -> None:
        self.on_gpu = device.type == "cuda"
        self.every = max(1, -(-batches // STEPS_AT_MOST))
        self.batches = 0
        self.timed: list[dict[str, Any]] = []  # moment → when, of each step that is timed
        self.now: dict[str, Any] | None = None  # of the step that is being made, if it is timed
        self.ended = self._moment()

    def batch_came(self) -> None:
        self.now = {"ended before": self.ended, "came": self._moment()} if self.batches % self.every == 0 else None
        self.batches += 1

    def mark(self, moment: str) -> None:
        """ "backward", "step" or "stepped" begins or has happened; the first time in a batch counts."""
        if self.now is not None and moment not in self.now:
            self.now[moment] = self._moment()

    def batch_ended(self) -> None:
        self.ended = self._moment()
        if self.now is not None:
            self.timed.append({**self.now, "ended": self.ended})
            self.now = None

    def finish(self) -> dict[str, float]:
        """Seconds of each part over the whole epoch. Waits for the device."""
        if self.on_gpu:
            torch.cuda.synchronize()
        totals = dict.fromkeys(PARTS, 0.0)
        for moments in self.timed:
            for part, begin, end in _intervals(moments):
                totals[part] += self._seconds(begin, end)
        scale = self.batches / len(self.timed) if self.timed else 0.0
        return {part: seconds * scale for part, seconds in totals.items()}

    def _moment(self) -> Any:
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _seconds(self, begin: Any, end: Any) -> float:
        return float(begin.elapsed_time(end)) / 1000 if self.on_gpu else float(end - begin)


def _intervals(moments: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(part, begin, end) of a step; a batch that only accumulates has no optimizer part."""
    order = ["ended before", "came", "backward", "step", "stepped", "ended"]
    # What comes after the optimizer belongs to nothing, and a trainer's own step may leave out a moment.
    part_after = dict(zip(order, PARTS, strict=False))
    present = [name for name in order if name in moments]
    for begin, end in pairwise(present):
        if begin in part_after:
            yield part_after[begin], moments[begin], moments[end]
