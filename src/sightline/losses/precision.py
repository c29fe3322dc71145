"""Half precision is for the network; losses add up millions of small numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """The same values in float32, unless they are float64 already."""
    return values if values.dtype == torch.float64 else values.float()
