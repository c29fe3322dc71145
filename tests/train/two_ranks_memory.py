"""What test_micro_batches.py runs on two ranks: `torchrun --nproc-per-node 2 two_ranks_memory.py DATA MODEL OUT`.

Rank 1 runs out of memory in the forward pass of one run, in the backward pass of another; rank 0 never does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

from sightline.train.detect import DetectionTrainer
from sightline.train.ema import unwrap

FAST = {
    "imgsz": 64,
    "batch": 4,
    "epochs": 2,
    "workers": 0,
    "plots": False,
    "amp": False,
    "verbose": False,
    "device": "cpu",
    "optimizer": "SGD",
    "lr0": 0.01,
    "warmup_epochs": 0.0,
    "nbs": 8,
    "freeze_bn": True,
    "val": False,
    "name": "run",
}


class Held(DetectionTrainer):
    """BatchNorm with its statistics as they are, so that pieces and wholes can be compared."""

    where = ""

    def _model_train(self) -> None:
        super()._model_train()
        for module in unwrap(self.model).modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()

    def _forward(self, batch: dict[str, Any]) -> Any:
        self.size = len(batch["img"])
        found = super()._forward(batch)
        if self._short("forward"):  # behind the calls that the ranks make together
            raise MemoryError
        return found

    def _backward(self) -> None:
        super()._backward()
        if self._short("backward"):
            raise MemoryError

    def _short(self, where: str) -> bool:
        return where == self.where and self.rank == 1 and self.size > 1 and (self.epoch, self.batch_index) == (0, 1)


def main(data: str, model: str, out: Path) -> None:
    found: dict[str, Any] = {}
    for where in ("", "forward", "backward"):
        kind = type("Held", (Held,), {"where": where})
        trainer = kind(overrides={**FAST, "data": data, "model": model, "project": str(out / f"run{where}")})
        limits: list[int | None] = []
        trainer.add_callback("on_train_batch_start", lambda t, limits=limits: limits.append(t.micro_batches.limit))
        trainer.train()
        weights = {name: value.clone() for name, value in unwrap(trainer.model).state_dict().items()}
        found[where] = {"weights": weights, "limits": limits, "history": trainer.history}
    torch.save(found, out / f"rank{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
