"""The parts of a loss under their names, in whichever form a loss gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def named_items(items: Any, names: Sequence[str] = ()) -> dict[str, Tensor]:
    """Name → () detached value.

    Args:
        items: a mapping; a tensor or sequence of values, which get `names` where there are as many; or None.
        names: of the parts, if they come without.
    """
    if items is None:
        return {}
    if isinstance(items, Mapping):
        return {str(name): torch.as_tensor(value).detach() for name, value in items.items()}
    values = list(torch.as_tensor(items).detach().reshape(-1)) if not isinstance(items, (list, tuple)) else list(items)
    if len(names) != len(values):
        names = ("loss",) if len(values) == 1 else [f"loss_{i}" for i in range(len(values))]
    return {name: torch.as_tensor(value).detach() for name, value in zip(names, values, strict=True)}
