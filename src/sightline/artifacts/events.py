"""events.jsonl: what happened in a run, one JSON object a line, in the order in which it happened."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sightline.log import LOGGER

NAME = "events.jsonl"


class Events:
    """Appends to events.jsonl. A line is written whole or, where the disk is full, not at all; nothing here ends a run.

    Until `open` names the folder, events wait in memory. Where `silent` is set, on all ranks but the first, they are
    dropped.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.waiting: list[dict[str, Any]] = []
        self.silent = False  # this process is not the one that writes
        self.failed = False  # has been said once

    def open(self, folder: Path) -> None:
        """From now on events go to the file of that folder, those that wait first."""
        self.path = Path(folder) / NAME
        waiting, self.waiting = self.waiting, []
        for event in waiting:
            self._write(event)

    def add(self, kind: str, **facts: Any) -> None:
        """Record one event.

        Args:
            kind: what happened: "finding", "epoch", "rollback", …
            facts: plain values. Numbers that are not finite are written as null, because JSON has none.
        """
        event = {"time": round(time.time(), 3), "event": kind, **_plain(facts)}
        if self.silent:
            return
        if self.path is None:
            self.waiting.append(event)
        else:
            self._write(event)

    def read(self) -> list[dict[str, Any]]:
        """All events so far."""
        return [] if self.path is None else list(read_events(self.path))

    def _write(self, event: Mapping[str, Any]) -> None:
        line = json.dumps(event, ensure_ascii=False).encode() + b"\n"
        try:
            # One write to a file opened for appending: lines of several threads do not mix.
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)  # type: ignore[arg-type]
            try:
                if os.fstat(descriptor).st_size:
                    os.lseek(descriptor, -1, os.SEEK_END)
                    if os.read(descriptor, 1) != b"\n":  # a crash or a full disk has cut the last line
                        line = b"\n" + line
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
            self.failed = False
        except OSError as error:
            if not self.failed:
                LOGGER.warning(f"{self.path} cannot be written ({error.strerror or error}); the run goes on without it")
            self.failed = True


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a file; a line that a crash has cut is left out. Nothing where there is no file."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                yield event


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a number of NumPy or torch
        return _plain(value.item())
    return str(value)
