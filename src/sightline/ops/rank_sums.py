"""Sums over ranks in the middle of a forward or backward pass, which all ranks can break off together.

Synchronised BatchNorm and the divisors of losses let ranks wait for each other within a pass. Where one of them runs
out of memory between two such calls, the others would wait for ever, and nobody can call off a call. So while a
`JointPass` is in force all these calls look alike: one buffer of a fixed size, with two flags at its end. A rank that
failed goes on answering, with nothing but its flag, until the others come to the end of the pass. There all of them
learn of it, and can begin again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

_IN_FORCE: JointPass | None = None  # no ContextVar: torch runs backward passes in threads of its own


class JointPass:
    """The calls of one pass, or of several behind each other.

    Args:
        room: numbers that fit into one call; what is longer takes several.
        device: where the sums are made.
    """

    def __init__(self, room: int, device: torch.device) -> None:
        # Made before memory gets short: a rank that has none left still has to answer.
        self._buffer = torch.zeros(room + 2, dtype=torch.float64, device=device)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """`sum_over_ranks` goes through this pass."""
        global _IN_FORCE
        _IN_FORCE = self
        try:
            yield
        finally:
            _IN_FORCE = None

    def add(self, values: Tensor) -> Tensor:
        """The sums over the ranks; without those that failed already, of which nothing is said here."""
        room = len(self._buffer) - 2
        parts = torch.split(values.detach().reshape(-1), room)
        return torch.cat([self._call(part) for part in parts]).view(values.shape)

    def end(self, *, failed: bool) -> bool:
        """Whether the pass failed on any rank. Every rank comes here once, whatever happened."""
        while True:
            self._call(self._buffer[:0], failed=failed, at_end=not failed)
            # On a GPU this waits for the pass, once a batch: nobody may step before all know that it was whole.
            failures, arrived = self._buffer[-2:].tolist()
            if not failed or arrived or failures == dist.get_world_size():
                return bool(failures)

    def _call(self, values: Tensor, *, failed: bool = False, at_end: bool = False) -> Tensor:
        self._buffer.zero_()
        self._buffer[: len(values)] = values
        self._buffer[-2], self._buffer[-1] = float(failed), float(at_end)
        dist.all_reduce(self._buffer)
        return self._buffer[: len(values)].to(values.dtype, copy=True)


def sum_over_ranks(values: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """The sum of each number over the ranks; every rank has to call it, with the same shape.

    Args:
        values: floating point, of any shape.
        group: the ranks; None is all of them. A pass that can be broken off is one of all ranks.
    """
    if _IN_FORCE is not None and group is None:
        return _IN_FORCE.add(values)
    total = values.detach().clone()
    dist.all_reduce(total, group=group)
    return total
