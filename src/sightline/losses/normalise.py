"""Divisors of a loss when several processes each hold a part of the batch.

A loss is divided by something counted in the batch (the target scores of all positives), and multiplied by the number
of images. Two processes that each count their own half do not compute what one process does with the whole. So, inside
of `over_ranks`, such counts are averaged over the ranks. With W ranks, losses S_r and counts T_r of rank r, the trainer
multiplies the loss by W and DDP averages the gradients over the ranks, which gives those of the joined batch:

    1/W · Σ_r  W · S_r / (Σ T_r / W) · (Σ B_r / W)  =  Σ S_r / Σ T_r · Σ B_r

The terms that a loss reports are then those of its rank, S_r / (Σ T_r / W): their mean over the ranks is the value of
the joined batch.

A batch that goes through the network in pieces (train/micro_batches.py) is the same problem on one process: a first
pass counts, and within `of_whole` the second divides each piece by what all of them together counted.

Only the training step is inside of `over_ranks`. In validation ranks may have batches of unlike number, or one rank
may be at it alone, so a collective call there would wait for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from sightline.ops.rank_sums import sum_over_ranks

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class _Ranks(NamedTuple):
    group: ProcessGroup | None  # None is the default group
    size: int


_RANKS: ContextVar[_Ranks | None] = ContextVar("ranks that losses are averaged over", default=None)


@contextmanager
def over_ranks(group: ProcessGroup | None = None) -> Iterator[None]:
    """Within this, the divisors of losses are averaged over the ranks of the group.

    Every rank must enter it, and call the same losses equally often. Without torch.distributed, or with one rank, it
    does nothing.

    Args:
        group: the ranks of the run; None is the default group of torch.distributed.
    """
    size = dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1
    token = _RANKS.set(_Ranks(group, size) if size > 1 else None)
    try:
        yield
    finally:
        _RANKS.reset(token)


class WholeBatch:
    """What was counted in all pieces of this rank's batch, for each call of `mean_over_ranks` in a forward pass.

    What the ranks told each other is kept, too: a rank that has to begin its batch again must not ask twice, since the
    others answered already.
    """

    def __init__(self) -> None:
        self.counting = False
        self._counts: list[Tensor] = []
        self._means: list[Tensor] = []
        self._call = 0

    @property
    def used(self) -> bool:
        """Whether the loss has asked for a divisor at all; one of a user's own need not."""
        return bool(self._counts or self._means)

    def begin_counting(self) -> None:
        self.counting, self._counts = True, []

    def begin_piece(self) -> None:
        self._call = 0

    def mean(self, count: Tensor) -> Tensor:
        call, self._call = self._call, self._call + 1
        if self.counting:
            if call == len(self._counts):
                self._counts.append(count.detach().clone())
            else:
                self._counts[call] += count.detach()
            return count.detach()
        if call == len(self._means):
            self._means.append(_averaged(self._counts[call] if call < len(self._counts) else count.detach()))
        return self._means[call]


_WHOLE: ContextVar[WholeBatch | None] = ContextVar("the batch that comes in pieces", default=None)


@contextmanager
def of_whole(batch: WholeBatch) -> Iterator[None]:
    """Within this, the divisors of losses are those of the whole batch, of which each forward pass sees a piece."""
    token = _WHOLE.set(batch)
    try:
        yield
    finally:
        _WHOLE.reset(token)


def rank_count() -> int:
    """How many ranks `mean_over_ranks` averages over: 1 outside of `over_ranks`."""
    ranks = _RANKS.get()
    return 1 if ranks is None else ranks.size


def mean_over_ranks(count: Tensor) -> Tensor:
    """What each rank counted in its whole batch, averaged; for the divisors of your own losses.

    Call it on every rank, also where there is nothing to count (with zeros): the ranks wait for each other.

    Args:
        count: of any shape, the same on every rank.

    Returns:
        The mean, the same on every rank; outside of `over_ranks` the count as it is. Without a gradient in both cases.
        Whole numbers come back as float32 where they are averaged.
    """
    whole = _WHOLE.get()
    return _averaged(count) if whole is None else whole.mean(count)


def _averaged(count: Tensor) -> Tensor:
    ranks = _RANKS.get()
    if ranks is None:
        return count.detach()
    return sum_over_ranks(count if count.is_floating_point() else count.float(), ranks.group) / ranks.size


def divisor_and_batch(total: Tensor, images: int) -> tuple[Tensor, Tensor | int]:
    """The two numbers that a loss of the whole batch is scaled by, with one call between the ranks for both.

    Args:
        total: () target scores of this rank's batch, added up.
        images: B of this rank, or of a piece of its batch.

    Returns:
        () what to divide by: the total, but at least 1 over all ranks (a batch without objects still teaches
        background); and what to multiply with.
    """
    if _RANKS.get() is None and _WHOLE.get() is None:
        return total.clamp(min=1), images
    mean, mean_images = mean_over_ranks(torch.stack([total, torch.full_like(total, images)])).unbind()
    return mean.clamp(min=1 / rank_count()), mean_images
