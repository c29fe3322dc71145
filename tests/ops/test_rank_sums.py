"""Sums of a pass that ranks break off together, on three ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import forked
from nn.test_sync_batch_norm import free_port
from sightline.ops.rank_sums import JointPass, sum_over_ranks

RANKS = 3


def join(rank: int, port: int) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS)


# rank → before which of the five calls of the second pass it fails; 5 is after all of them.
FAILURES: list[dict[int, int]] = [{}, {1: 0}, {0: 2}, {2: 5}, {0: 1, 2: 4}, {0: 3, 1: 3, 2: 3}, {0: 0, 1: 2, 2: 5}]


def three_passes(rank: int, failing: dict[int, int]) -> dict[str, Any]:
    joint = JointPass(4, torch.device("cpu"))
    verdicts, sums = [], []
    for number in range(3):
        fails_before = failing.get(rank) if number == 1 else None
        with joint.in_force():
            for call in range(5 if fails_before is None else fails_before):
                sums.append(sum_over_ranks(torch.arange(call * 3).reshape(-1, 3) * 10.0**rank))
        verdicts.append(joint.end(failed=fails_before is not None))
    after = sum_over_ranks(torch.ones(1))  # without a pass: all calls before it are answered
    return {"verdicts": verdicts, "sums": sums, "after": after}


def rank_of_three(rank: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    join(rank, port)
    torch.save([three_passes(rank, failing) for failing in FAILURES], f"{out}/{rank}.pt")
    dist.destroy_process_group()


def test_all_ranks_learn_of_a_failure_and_go_on(tmp_path: Path):
    forked.ranks(rank_of_three, free_port(), str(tmp_path), count=RANKS)
    for rank in range(RANKS):
        for failing, found in zip(FAILURES, torch.load(tmp_path / f"{rank}.pt"), strict=True):
            assert found["verdicts"] == [False, bool(failing), False], failing
            assert found["after"] == 3
            for group in (found["sums"][:5], found["sums"][-5:]):  # the passes without a failure
                for call, values in enumerate(group):
                    assert torch.equal(values, torch.arange(call * 3).reshape(-1, 3) * 111.0)
