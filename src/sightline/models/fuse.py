"""Folding for inference: fewer layers, the same outputs."""

from __future__ import annotations

from torch import nn


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
    """Whether no BatchNorm is left that `fuse` would fold."""
    return not any(getattr(module, "bn", None) is not None for module in network.modules())
