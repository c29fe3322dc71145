"""The time of a run, in seconds: `time.time()`, but it goes on evenly when somebody sets the clock of the machine."""

from __future__ import annotations

import time

_OFFSET = time.time() - time.monotonic()


def now() -> float:
    return time.monotonic() + _OFFSET
