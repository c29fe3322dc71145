"""One rank of the test of normalisers: gradients of a small network for its part of a batch, as DDP averages them.

    python rank.py RANK RANKS FOLDER

With one rank there is no torch.distributed, as in a run on one device.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from models.small_rtdetr import RESNET
from sightline.losses.normalise import mean_over_ranks, over_ranks, rank_count
from sightline.models.build import build_model

# Case → rows (image, class, x, y, w, h) of a batch of four images, and the images of rank 0; the others are of rank 1.
TARGETS = {
    "objects on both": ([(0, 0, 0.5, 0.5, 0.4, 0.6), (1, 1, 0.3, 0.4, 0.3, 0.3), (3, 2, 0.6, 0.6, 0.5, 0.5)], 2),
    "none on one rank": ([(0, 0, 0.5, 0.5, 0.4, 0.6), (1, 1, 0.3, 0.4, 0.3, 0.3)], 2),
    "none at all": ([], 2),
    "less than one in sum": ([(3, 0, 0.5, 0.5, 0.02, 0.02)], 2),
    "parts of unlike size": ([(0, 0, 0.5, 0.5, 0.4, 0.6), (3, 2, 0.6, 0.6, 0.5, 0.5)], 3),
}


# The same for each: the usual loss, and one whose targets each have one query. Without noisy queries: every process
# draws its own.
NETWORKS: dict[str, Any] = {"yolo26n": "yolo26n.yaml", "rtdetr": RESNET}


class Trained(nn.Module):
    """What DDP wraps: a call with a batch gives the loss."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = build_model(NETWORKS[name], nc=3, names={0: "a", 1: "b", 2: "c"}).double().train()
        if name == "rtdetr":
            self.network.head.num_denoising = 0
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()  # its statistics would differ between one batch and two halves

    def forward(self, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.network(batch)


def part_of(case: str, rank: int, ranks: int) -> dict[str, torch.Tensor]:
    """The images and targets of one rank."""
    rows, first = TARGETS[case]
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    begin, end = (0, 4) if ranks == 1 else (0, first) if rank == 0 else (first, 4)
    table = torch.tensor(rows, dtype=torch.float64).view(-1, 6)
    mine = table[(table[:, 0] >= begin) & (table[:, 0] < end)]
    return {
        "img": images[begin:end],
        "batch_idx": mine[:, 0] - begin,
        "cls": mine[:, 1:2],
        "bboxes": mine[:, 2:],
    }


def main(rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    if ranks > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=ranks, timeout=timedelta(seconds=60)
        )
    results: dict[str, Any] = {}
    for kind in NETWORKS:
        trained: nn.Module = Trained(kind)
        network = trained.network
        trained = nn.parallel.DistributedDataParallel(trained) if ranks > 1 else trained
        results[kind] = {}
        for case in TARGETS:
            trained.zero_grad()
            with over_ranks():
                loss, items = trained(part_of(case, rank, ranks))
            (loss.sum() * ranks).backward()
            results[kind][case] = {
                "gradients": {name: value.grad.clone() for name, value in network.named_parameters()},
                "items": items,
            }
        if rank == 0:  # one rank alone, as in validation: outside of `over_ranks` nobody waits for the others
            results[kind]["alone"] = network.loss(part_of("objects on both", 0, 1))[1]
    with over_ranks():
        results["ranks"] = rank_count()
        results["mean"] = mean_over_ranks(torch.tensor([1, 2]) + rank)
    torch.save(results, folder / f"{rank}of{ranks}.pt")
    if ranks > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
