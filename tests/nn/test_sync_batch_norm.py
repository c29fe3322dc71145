"""Two processes with SyncBatchNorm see what one sees with BatchNorm on the joined batch."""

from __future__ import annotations

import copy
import datetime
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import forked
from sightline.nn.sync_batch_norm import SyncBatchNorm, convert, convert_foreign

RANKS = 2


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def join(rank: int, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=RANKS, timeout=datetime.timedelta(seconds=60))


def network(norm: nn.Module) -> nn.Sequential:
    """Two norms behind each other, so that a wrong gradient of an input shows in what comes before."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, bias=False), norm, nn.SiLU(), nn.Conv2d(5, 5, 1, bias=False), copy.deepcopy(norm)
    )


def images(size: int) -> Tensor:
    return torch.randn(size, 3, 7, 6, generator=torch.Generator().manual_seed(2)) * 3 + 20


def pull(shape: torch.Size) -> Tensor:
    """What the loss wants of each output, another for each image."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def rank_of_two(rank: int, port: int, sizes: tuple[int, int], kind: str, out: str) -> None:
    join(rank, port)
    model = network(nn.BatchNorm2d(5, affine=kind != "plain", momentum=None if kind == "cumulative" else 0.1))
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model) if kind == "foreign" else model
    model = convert_foreign(model) if kind == "foreign" else convert(model)
    first = sum(sizes[:rank])
    x = images(sum(sizes))[first : first + sizes[rank]]
    if kind == "channels_last":
        model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    y = model(x)
    (y * pull(torch.Size([sum(sizes), *y.shape[1:]]))[first : first + sizes[rank]]).sum().backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    torch.save({"y": y.detach(), "dx": x.grad, "grads": grads, "state": model.state_dict()}, f"{out}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("sizes", "kind"),
    [
        ((3, 3), "affine"),
        ((5, 1), "affine"),
        ((4, 0), "affine"),
        ((2, 3), "plain"),
        ((2, 3), "cumulative"),
        ((2, 3), "foreign"),
        ((2, 3), "channels_last"),
    ],
)
def test_two_ranks_equal_the_joined_batch(tmp_path: Path, sizes: tuple[int, int], kind: str):
    forked.ranks(rank_of_two, free_port(), sizes, kind, str(tmp_path), count=RANKS)
    ranks: list[dict[str, Any]] = [torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS)]
    model = network(nn.BatchNorm2d(5, affine=kind != "plain", momentum=None if kind == "cumulative" else 0.1))
    x = images(sum(sizes)).requires_grad_()
    y = model(x)
    (y * pull(y.shape)).sum().backward()

    def close(actual: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * max(1.0, float(expected.abs().max())))

    close(torch.cat([rank["y"] for rank in ranks]), y.detach())
    close(torch.cat([rank["dx"] for rank in ranks]), x.grad)
    for name, parameter in model.named_parameters():
        close(ranks[0]["grads"][name] + ranks[1]["grads"][name], parameter.grad)
    assert list(ranks[0]["state"]) == list(model.state_dict())
    for name, value in model.state_dict().items():
        if "running" in name or "tracked" in name:
            close(ranks[0]["state"][name], value)
            assert torch.equal(ranks[0]["state"][name], ranks[1]["state"][name])


def rank_in_bfloat16(rank: int, port: int, out: str) -> None:
    join(rank, port)
    model = convert(network(nn.BatchNorm2d(5)))
    x = images(2 * RANKS)[2 * rank : 2 * rank + 2]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
    y.float().square().sum().backward()
    torch.save(
        {"y": y.detach(), "finite": all(p.grad.isfinite().all() for p in model.parameters())}, f"{out}/{rank}.pt"
    )
    model.eval()
    if rank == 0:  # eval needs nobody else: with a reduction in it, this would wait for ever
        model(x)
    dist.barrier()
    dist.destroy_process_group()


def test_mixed_precision_and_eval_on_one_rank(tmp_path: Path):
    forked.ranks(rank_in_bfloat16, free_port(), str(tmp_path), count=RANKS)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS)]
    model = network(nn.BatchNorm2d(5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = model(images(2 * RANKS))
    assert ranks[0]["y"].dtype == expected.dtype == torch.bfloat16
    assert all(rank["finite"] for rank in ranks)
    # One unit of bfloat16 in an input of the last norm moves its output by that much.
    torch.testing.assert_close(torch.cat([rank["y"] for rank in ranks]), expected.detach(), rtol=0.05, atol=0.05)


def test_without_other_ranks_it_is_batch_norm():
    plain = network(nn.BatchNorm2d(5))
    ours = convert(copy.deepcopy(plain))
    assert torch.equal(ours(images(2)), plain(images(2)))
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), plain.state_dict().values(), strict=True))
    assert torch.equal(ours.eval()(images(1)), plain.eval()(images(1)))


def test_torchs_own_runs_on_a_cpu_once_exchanged():
    foreign = nn.SyncBatchNorm.convert_sync_batchnorm(network(nn.BatchNorm2d(5)))
    foreign[1].process_group = "theirs"
    ours = convert_foreign(foreign)
    assert [type(ours[index]) for index in (1, 4)] == [SyncBatchNorm, SyncBatchNorm]
    assert ours[1].process_group == "theirs"
    assert isinstance(ours[1], nn.BatchNorm2d)
    assert copy.deepcopy(ours)[1].process_group is None  # what cannot be copied stays behind


def test_the_exchange_keeps_what_others_hold():
    norm = nn.BatchNorm2d(5)
    model = nn.Sequential(norm, norm, nn.BatchNorm1d(5)).eval()
    before = [*model.parameters(), *model.buffers()]
    seen = []
    norm.register_forward_hook(lambda *_: seen.append(1))
    norm.weight.requires_grad_(False)
    assert convert(model) is model
    assert all(a is b for a, b in zip(before, [*model.parameters(), *model.buffers()], strict=True))
    assert model[0] is model[1]  # one layer in two places stays one
    assert not model[0].training
    assert not model[0].weight.requires_grad
    model[0](torch.ones(1, 5, 2, 2))
    assert seen == [1]
    assert isinstance(convert(nn.BatchNorm2d(3)), SyncBatchNorm)


class Own(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


def test_a_users_own_norm_stays():
    model = nn.Sequential(Own(3))
    assert type(convert(model)[0]) is Own
