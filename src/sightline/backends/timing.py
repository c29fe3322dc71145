"""Where the time of a run goes, without waiting for the device at every step."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch


class StageTimer:
    """Adds up the seconds of named stages.

    On a GPU the work of a stage is only queued when the stage ends. So the stages are marked in the queue (CUDA
    events) and read at the end. A stage that waits for results anyway is measured with `waits=True` by the clock, from
    the moment the queue is empty.
    """

    def __init__(self, device: torch.device, stages: tuple[str, ...]) -> None:
        self._cuda = device.type == "cuda"
        self._device = device
        self._seconds = dict.fromkeys(stages, 0.0)
        self._marks: list[tuple[str, Any, Any]] = []

    @contextlib.contextmanager
    def stage(self, name: str, *, waits: bool = False) -> Iterator[None]:
        """Measure the block."""
        if self._cuda and not waits:
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            queue = torch.cuda.current_stream(self._device)
            start.record(queue)
            yield
            end.record(queue)
            self._marks.append((name, start, end))
            return
        if self._cuda:
            torch.cuda.synchronize(self._device)  # the stage would wait here anyway
        begin = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - begin

    def milliseconds_per(self, count: int) -> dict[str, float]:
        """Milliseconds of each stage, divided by `count` (images). Waits for the device."""
        if self._marks:
            torch.cuda.synchronize(self._device)
        for name, start, end in self._marks:
            self._seconds[name] += start.elapsed_time(end) / 1e3
        self._marks.clear()
        return {name: seconds * 1e3 / max(count, 1) for name, seconds in self._seconds.items()}
