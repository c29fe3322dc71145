"""What the loss of a batch usually is, and what is far above it."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Any

WINDOW = 50  # batches: long enough for a median that one batch does not move, short enough to follow the run
FEWEST = 20  # of fewer there is no telling what is usual; the first batches of a run fall steeply, too


class LossLevel:
    """The last losses and their median. Values that are not finite are left out."""

    def __init__(self) -> None:
        self.recent: deque[float] = deque(maxlen=WINDOW)
        self.key: tuple[float, ...] | None = None  # what the size of the loss depends on

    def add(self, loss: float) -> None:
        if math.isfinite(loss):
            self.recent.append(loss)

    def median(self) -> float | None:
        """None while there are too few values."""
        return statistics.median(self.recent) if len(self.recent) >= FEWEST else None

    def limit(self, factor: float) -> float:
        """Above this a loss is a spike; infinite where nothing can be said (or `factor` is 0)."""
        median = self.median() if factor else None
        return math.inf if median is None or median <= 0 else factor * median

    def follow(self, key: tuple[float, ...]) -> None:
        """Forget everything when `key` (the gains of the loss, for instance) is not what it was."""
        if self.key is not None and key != self.key:
            self.recent.clear()
        self.key = key

    def state_dict(self) -> dict[str, Any]:
        return {"recent": list(self.recent), "key": None if self.key is None else list(self.key)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.recent.clear()
        self.recent.extend(state.get("recent", []))
        key = state.get("key")
        self.key = None if key is None else tuple(key)
