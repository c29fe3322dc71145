"""The processes of one run ("ranks"): which of them this is, and what they tell each other.

With a single process everything here does nothing and costs nothing. Values travel as objects over the CPU, so none of
this belongs inside a step of training, except `any_of` and `highest`, which are a few bytes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sightline.backends.pulse import PULSE


def count() -> int:
    """How many processes train together; 1 outside of a run on several."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the one that writes files and talks to people."""
    return rank() == 0


def launched() -> int:
    """How many processes a launcher (ours or torchrun) started for one run, as it tells them; 0 outside of one."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= os.environ.keys() else 0


def local_rank() -> int:
    """The number of this process among those on this machine."""
    return int(os.environ.get("LOCAL_RANK", 0)) if launched() else 0


def broadcast(value: Any) -> Any:
    """The value that rank 0 has, on every rank."""
    if count() == 1:
        return value
    box = [value if is_main() else None]
    with PULSE.waiting():
        dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: Any) -> list[Any]:
    """The values of all ranks, in their order, on every rank."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    with PULSE.waiting():
        dist.all_gather_object(values, value)
    return values


def any_of(flag: bool) -> bool:
    """Whether it is true on at least one rank."""
    return bool(highest(int(flag))[0])


def highest(*values: int) -> list[int]:
    """The highest that any rank has, of each of the numbers."""
    if count() == 1:
        return list(values)
    votes = torch.tensor(values, device=_meeting_place())
    with PULSE.waiting():
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return [int(vote) for vote in votes.tolist()]


def mean(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mean of each () tensor over the ranks."""
    if count() == 1 or not values:
        return dict(values)
    total = torch.stack([value.detach().float() for value in values.values()])
    with PULSE.waiting():
        dist.all_reduce(total)
    return dict(zip(values, (total / count()).unbind(), strict=True))


def barrier() -> None:
    """Wait until every rank is here."""
    gather(None)  # dist.barrier() with nccl guesses a GPU; this does not


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Rank 0 runs the block before the others do: it fills a cache that they find."""
    if not is_main():
        barrier()
    try:
        yield
    finally:
        if is_main():
            barrier()


def _meeting_place() -> torch.device:
    """Where small tensors can meet: the CPU, unless the processes only know how to talk from GPU to GPU."""
    return torch.device("cuda") if "cpu:" not in dist.get_backend_config() else torch.device("cpu")
