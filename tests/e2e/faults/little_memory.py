"""What test_memory.py starts: `python little_memory.py DATA FOLDER`. From its second epoch on the run may take only
500 MB more than it has after the first, which is about a third of what a batch takes."""

from __future__ import annotations

import resource
import sys
from typing import Any

import psutil
import torch

from sightline.log import configure
from sightline.train.detect import DetectionTrainer


def limit(trainer: Any) -> None:
    if trainer.epoch == 1:
        now = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (now + 500 * 2**20, resource.RLIM_INFINITY))


def main(data: str, folder: str) -> None:
    configure()
    torch.set_num_threads(1)
    trainer = DetectionTrainer(
        overrides={
            "model": "yolo26n.yaml",
            "data": data,
            "project": folder,
            "name": "run",
            "epochs": 3,
            "batch": 8,
            "imgsz": 416,
            "plots": False,
            "amp": False,
            "device": "cpu",
            "optimizer": "SGD",
            "lr0": 0.001,
            "mosaic": 0.0,
        }
    )
    trainer.add_callback("on_train_epoch_start", limit)
    trainer.train()
    finite = all(bool(value.isfinite().all()) for value in trainer.model.state_dict().values())
    print(f"epochs {trainer.epoch + 1} pieces {trainer.micro_batches.limit} finite {finite}")


if __name__ == "__main__":
    main(*sys.argv[1:])
