"""When a run has stopped getting better."""

from __future__ import annotations

import math
from typing import Any


class EarlyStopping:
    """Stops a run that has not improved for `patience` epochs.

    Equal fitness is no improvement: the earlier epoch stays the best. As long as nothing has been found at all
    (fitness 0) patience does not run, because a detector trained from scratch may need longer than that for its first
    hit; `count_zero=True` counts these epochs too.

    Args:
        patience: epochs without improvement; None or 0 means never stop.
    """

    def __init__(self, patience: int | None = 100, *, count_zero: bool = False) -> None:
        self.patience = patience or math.inf
        self.count_zero = count_zero
        self.best_fitness = 0.0
        self.best_epoch = 0
        self.possible_stop = False  # the next epoch may be the last

    def __call__(self, epoch: int, fitness: float | None) -> bool:
        """Whether to stop after this epoch.

        Args:
            epoch: epochs done so far, so 1 after the first.
            fitness: None if this epoch was not validated: nothing is counted or decided. NaN is no improvement.
        """
        if fitness is None:
            return False
        # 0 is also where the best starts, so a first fitness below it (minus a loss) is the best so far.
        waiting = self.best_fitness == 0 and (fitness < 0 or not self.count_zero)
        if fitness > self.best_fitness or waiting:
            self.best_epoch = epoch
            self.best_fitness = self.best_fitness if math.isnan(fitness) else fitness
        without_gain = epoch - self.best_epoch
        self.possible_stop = without_gain >= self.patience - 1
        return without_gain >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best_fitness": self.best_fitness, "best_epoch": self.best_epoch, "possible_stop": self.possible_stop}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back the best so far. Patience is a setting, which a resumed run may change."""
        self.best_fitness, self.best_epoch = state["best_fitness"], state["best_epoch"]
        self.possible_stop = state["possible_stop"]
