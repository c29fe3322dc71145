"""Folding for inference: fewer layers, the same outputs."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def fuse(network: nn.Module) -> nn.Module:
    """Let every module with a `fold` method fold itself, in place, outermost first; leaves the network in eval mode.

    A folded network cannot train. Its state dict has other keys: no `bn`, but `conv.bias`.
    """
    network.eval()
    for module in list(network.modules()):  # a list: folding removes children
        fold = getattr(module, "fold", None)
        if callable(fold):
            fold()
    return network


def is_fused(network: nn.Module) -> bool:
    """Whether `fuse` would find nothing to do: no BatchNorm to fold, no branch to drop."""
    return not any(_foldable(module) for module in network.modules())


def _foldable(module: nn.Module) -> bool:
    # A block of the user's own says so itself, or has its norm under the name that published networks use.
    return bool(getattr(module, "foldable", isinstance(getattr(module, "bn", None), _BatchNorm)))
