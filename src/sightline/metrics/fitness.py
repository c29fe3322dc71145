"""The one number that decides which epoch is best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Weights of precision, recall, mAP50 and mAP50-95. Only the last counts: it moves with the other three, and a sum of
# several would let a rise in one hide a fall in another.
FITNESS_WEIGHTS = (0.0, 0.0, 0.0, 1.0)


def fitness(mean_results: Sequence[float], weights: Sequence[float] = FITNESS_WEIGHTS) -> float:
    """Weighted sum of (precision, recall, mAP50, mAP50-95), each in [0, 1]; NaN counts as 0."""
    return float(np.nan_to_num(np.asarray(mean_results, dtype=np.float64)) @ np.asarray(weights, dtype=np.float64))
