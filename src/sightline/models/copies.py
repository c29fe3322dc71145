"""Copies of a network that leave alone what the network only refers to."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def copy_of(network: Module, *, with_criterion: bool = False) -> Module:
    """A deep copy, hooks included. A hook that is a method goes on to call the object that it belongs to.

    `copy.deepcopy` alone would copy that object as well: a trainer with its locks and loaders, which cannot be copied.

    Args:
        with_criterion: whether its loss object comes along. It can hold graphs of the last training step, which cannot
            be copied.
    """
    own = {id(module) for module in network.modules()}
    kept: dict[int, Any] = {id(owner): owner for owner in _hook_owners(network) if id(owner) not in own}
    criterion = getattr(network, "criterion", None)
    if criterion is not None and not with_criterion:
        kept[id(criterion)] = None
    return copy.deepcopy(network, kept)


def _hook_owners(network: nn.Module) -> Iterator[object]:
    for module in network.modules():
        for name, hooks in vars(module).items():
            if name.endswith("_hooks") and isinstance(hooks, dict):
                yield from (hook.__self__ for hook in hooks.values() if hasattr(hook, "__self__"))
