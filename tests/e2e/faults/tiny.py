"""Data and settings of the fault tests: 16 images of 64 px, small enough for a run of a few seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIDE = 64
# Four batches an epoch, two of them a step; mosaic on, closed for the last epoch.
RUN: dict[str, Any] = {
    "model": "yolo26n.yaml", "imgsz": SIDE, "batch": 4, "nbs": 8, "epochs": 2, "close_mosaic": 1, "workers": 0,
    "warmup_epochs": 0.5, "plots": False, "amp": False, "device": "cpu", "optimizer": "SGD", "lr0": 0.01,
    "save_every_steps": 1,
}  # fmt: skip


def build(root: Path, *, train: int = 16, val: int = 4) -> Path:
    """Make a data set with two classes of coloured rectangles; returns its YAML."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        images, labels = root / "images" / split, root / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for number in range(count):
            picture = rng.integers(90, 120, (SIDE, SIDE, 3), dtype=np.uint8)
            rows = []
            for kind, colour in enumerate(((255, 30, 30), (30, 30, 255))):
                width, height = rng.integers(14, 30, 2)
                x, y = rng.integers(0, SIDE - width), rng.integers(0, SIDE - height)
                picture[y : y + height, x : x + width] = colour
                box = ((x + width / 2) / SIDE, (y + height / 2) / SIDE, width / SIDE, height / SIDE)
                rows.append(" ".join(map(str, (kind, *box))))
            cv2.imwrite(str(images / f"{number}.png"), picture)
            (labels / f"{number}.txt").write_text("\n".join(rows))
    path = root / "tiny.yaml"
    path.write_text("path: .\ntrain: images/train\nval: images/val\nnames: [blue, red]\n")
    return path
