"""What test_micro_batches.py runs on two ranks: `torchrun --nproc-per-node 2 two_ranks_memory.py DATA SEVEN MODEL OUT`.

One rank runs out of memory, each time elsewhere; the other never does. SEVEN is a data set of seven images.
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


class Short(DetectionTrainer):
    """One rank runs out of memory once, in the second batch."""

    where = ""
    who = 1

    def _forward(self, batch: dict[str, Any]) -> Any:
        self.size = len(batch["img"])
        found = super()._forward(batch)
        self._fail_if("forward")  # behind the calls that the ranks make together
        return found

    def _backward(self) -> None:
        super()._backward()
        self._fail_if("backward")

    def optimizer_step(self) -> None:
        super().optimizer_step()
        self._fail_if("step")

    def _fail_if(self, where: str) -> None:
        if (where, self.rank, self.epoch, self.batch_index) == (self.where, self.who, 0, 1) and self.size > 1:
            raise MemoryError


class Held(Short):
    """BatchNorm with its statistics as they are, so that pieces and wholes can be compared."""

    def _model_train(self) -> None:
        super()._model_train()
        for module in unwrap(self.model).modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()


class Together(Short):
    """BatchNorm over the ranks: memory runs out in the middle of the network, where the other rank waits."""

    def _do_train(self) -> None:
        unwrap(self.model).model[4].register_forward_hook(self._in_the_middle)
        super()._do_train()

    def _in_the_middle(self, module: Any, inputs: Any, output: torch.Tensor) -> None:
        if not self.model.training:
            return
        self._fail_if("layer")
        if output.requires_grad:
            output.register_hook(lambda gradient: self._fail_if("gradient"))

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.size = len(batch["img"])
        return super().preprocess_batch(batch)


class TogetherUneven(Together):
    """The second batch has two images on rank 0 and one on rank 1."""

    who = 0


def smaller(trainer: Any) -> None:
    if (trainer.epoch, trainer.batch_index) == (0, 1):
        trainer.micro_batches.limit = 1


def run(kind: type, where: str, overrides: dict[str, Any], **more: Any) -> dict[str, Any]:
    trainer = type("Run", (kind,), {"where": where})(overrides={**FAST, **overrides, **more})
    limits: list[int | None] = []
    if where == "from the start":
        trainer.add_callback("on_train_batch_start", smaller)
    trainer.add_callback("on_train_batch_start", lambda t: limits.append(t.micro_batches.limit))
    trainer.train()
    weights = {name: value.clone() for name, value in unwrap(trainer.model).state_dict().items()}
    return {
        "weights": weights,
        "limits": limits,
        "history": trainer.history,
        "in_force": trainer.in_force.get("micro-batches"),
        "events": [event["evidence"]["reason"] for event in trainer.guard.events],
    }


def main(data: str, seven: str, model: str, out: Path) -> None:
    overrides = {"data": data, "model": model}
    found: dict[str, Any] = {}
    for where in ("", "forward", "backward", "step"):
        found[where] = run(Held, where, overrides, project=str(out / f"run{where}"))
    overrides |= {"freeze_bn": False, "sync_bn": True}
    for where in ("from the start", "layer", "gradient", "forward"):
        found[f"sync_bn, {where}"] = run(Together, where, overrides, project=str(out / f"sync{where}"))
    overrides |= {"data": seven}
    for where in ("from the start", "layer"):
        found[f"sync_bn, uneven, {where}"] = run(TogetherUneven, where, overrides, project=str(out / f"seven{where}"))
    torch.save(found, out / f"rank{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:4], Path(sys.argv[4]))
