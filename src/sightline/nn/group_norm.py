"""GroupNorm in the place of BatchNorm: nothing depends on the other images of a batch."""

from __future__ import annotations

from torch import nn

from sightline.nn.sync_batch_norm import PLAIN, SyncBatchNorm, exchange

MOST_GROUPS = 32
FEWEST_CHANNELS = 8  # of a group: with one channel each it would be instance norm, which removes the contrast of a map


def group_count(channels: int) -> int:
    """The largest divisor of `channels` up to 32 that leaves groups of 8 channels or more; 1 if there is none.

    Source: Wu & He, Group Normalization, arXiv:1803.08494 (32 groups; section 4.1, table 3 on their size).
    """
    most = min(MOST_GROUPS, max(channels // FEWEST_CHANNELS, 1))
    return next(count for count in range(most, 0, -1) if channels % count == 0)


def convert(module: nn.Module) -> nn.Module:
    """Exchange every BatchNorm, synchronised or not, for GroupNorm with the same weight and bias under the same names.

    Returns:
        The module, changed in place; a new one if it is itself such a layer.
    """
    return exchange(module, lambda norm: _grouped(norm) if _is_batch_norm(norm) else norm)


def _is_batch_norm(module: nn.Module) -> bool:
    return type(module) in PLAIN or isinstance(module, (nn.SyncBatchNorm, SyncBatchNorm))


def _grouped(norm: nn.Module) -> nn.GroupNorm:
    channels = norm.num_features
    grouped = nn.GroupNorm(group_count(channels), channels, eps=norm.eps, affine=norm.affine)
    grouped.train(norm.training)
    if norm.affine:
        grouped.weight, grouped.bias = norm.weight, norm.bias
    return grouped
