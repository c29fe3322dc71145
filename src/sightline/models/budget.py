"""A limit on what a description may build: one that came in a file could name any size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sightline.errors import ModelError

FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.arange, torch.rand, torch.randn})


class Budget(TorchFunctionMode):
    """Use as a context manager: tensors that this thread makes inside are counted before they take memory.

    What a network needs while it is built is more than its state: branches that are replaced, norms that are folded.

    Raises:
        ModelError: they are far more, or larger, than those of `state`.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._tensors_left = 3 * len(state) + 1000
        self._numbers_left = 4 * sum(value.numel() for value in state.values()) + 2**20

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in FACTORIES:
            size = args[0] if args and isinstance(args[0], (tuple, list)) else args
            self._tensors_left -= 1
            self._numbers_left -= math.prod(size)
            if self._tensors_left < 0 or self._numbers_left < 0:
                raise ModelError("this makes the network far larger than the weights that should go into it")
        return function(*args, **(kwargs or {}))
