"""What test_distributed.py runs on two ranks in one start: `torchrun --nproc-per-node 2 two_ranks.py DATA EMPTY OUT`.

It writes what each scenario came to into OUT/<scenario>.pt, by rank 0, with what the other rank has for comparison.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.backends import ranks
from sightline.errors import Interrupted as Stopped
from sightline.train.detect import DetectionTrainer
from sightline.train.ema import unwrap

FAST = {
    "model": "yolo26n.yaml",
    "imgsz": 64,
    "batch": 4,
    "epochs": 1,
    "workers": 0,
    "plots": False,
    "amp": False,
    "verbose": False,
    "device": "cpu",
    "optimizer": "SGD",
    "lr0": 0.001,
    "warmup_epochs": 0.0,
    "nbs": 4,
    "clip_grad": 0,
    "name": "run",
}
SCENARIOS: dict[str, dict[str, Any]] = {
    "frozen BatchNorm": {"freeze_bn": True},
    "synchronised BatchNorm": {"sync_bn": True},
    "no objects on rank 1": {"freeze_bn": True, "mosaic": 0.0},
}


class Recording(DetectionTrainer):
    """Keeps the gradients of every step and the losses of the run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gradients: list[torch.Tensor] = []

    def optimizer_step(self) -> None:
        model = unwrap(self.model)
        self.gradients.append(torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None]).clone())
        super().optimizer_step()

    def summary(self) -> dict[str, Any]:
        metrics = self.validator.metrics
        return {
            "gradients": self.gradients,
            "history": self.history,
            "metrics": self.metrics,
            "weights": {name: value.clone() for name, value in unwrap(self.model).state_dict().items()},
            "ema": {name: value.clone() for name, value in self.ema.ema.state_dict().items()},
            "paths": sorted(metrics.box.image_metrics) if metrics.confusion_matrix else [],
            "confusion": torch.from_numpy(metrics.confusion_matrix.matrix)
            if metrics.confusion_matrix
            else torch.zeros(1),
        }


class Double(Recording):
    """In float64: a network with random weights whose 114 BatchNorm layers use the batch's own statistics multiplies
    rounding errors of float32 by some thousands, also on one process."""

    def set_model_attributes(self) -> None:
        super().set_model_attributes()
        self.model.double()

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess_batch(batch)
        return {**batch, "img": batch["img"].double()}

    def validate(self) -> None:
        """Images of validation are float32."""

    def final_eval(self) -> None:
        pass


class Poisoned(Recording):
    """Rank 1 gets a batch of NaN in its second step."""

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess_batch(batch)
        if self.rank == 1 and self.epoch == 0 and self.batch_index == 1:
            batch["img"] = batch["img"] * float("nan")
        return batch


class Interrupted(Exception):
    pass


def run(data: str, folder: Path, kind: type = Recording, **settings: Any) -> Any:
    trainer = kind(overrides={**FAST, "data": data, "project": str(folder), **settings})
    trainer.train()
    return trainer


def stop_after_epoch(number: int) -> Any:
    def stop(trainer: Any) -> None:
        if trainer.epoch + 1 == number:
            raise Interrupted

    return stop


def stop_on_rank_1(step: int) -> Any:
    """A signal that only one of them gets."""

    def ask(trainer: Any) -> None:
        if trainer.iteration == step and trainer.rank == 1:
            trainer.interrupt.asked = signal.SIGTERM

    return ask


def main(data: str, empty: str, out: Path) -> None:
    found: dict[str, Any] = {}
    for name, settings in SCENARIOS.items():
        kind = Double if "synchronised" in name else Recording
        found[name] = run(empty if "objects" in name else data, out / name, kind, **settings).summary()
    found["NaN on rank 1"] = run(data, out / "nan", Poisoned, epochs=2).summary()
    found["thawing"] = run(data, out / "thaw", epochs=2, freeze=10, unfreeze_epoch=1).summary()
    found["whole"] = run(data, out / "whole", epochs=3, sync_bn=False).summary()
    cut = Recording(overrides={**FAST, "data": data, "project": str(out / "cut"), "epochs": 3, "sync_bn": False})
    cut.add_callback("on_fit_epoch_end", stop_after_epoch(2))
    try:
        cut.train()
        raise AssertionError("this run must be cut short")
    except Interrupted:
        ranks.barrier()  # rank 0 has written its last.pt when it leaves train(), and the others may be here before
    resumed = Recording(overrides={"resume": str(cut.last)})
    resumed.train()
    found["resumed"] = resumed.summary()
    several = {"epochs": 2, "sync_bn": False, "nbs": 8, "batch": 4, "warmup_epochs": 1.0}
    found["whole with gradients waiting"] = run(data, out / "whole2", **several).summary()
    cut = Recording(overrides={**FAST, "data": data, "project": str(out / "cut2"), **several})
    for step in (0, 2):
        cut.add_callback("on_before_backward", stop_on_rank_1(step))
        with pytest.raises(Stopped) as caught:
            cut.train()
        assert caught.value.code == 143
        cut = Recording(overrides={"resume": str(cut.last)})
    cut.train()
    found["stopped by a signal"] = cut.summary()
    torch.save(found, out / f"rank{sys_rank()}.pt")


def sys_rank() -> int:
    import os

    return int(os.environ["RANK"])


if __name__ == "__main__":
    assert ranks.launched() == 2
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
