"""Shared by all tests: one thread per process, because `make test` runs two processes on two cores."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set that trains in a second: 8 + 4 images of 64 px, each with two coloured rectangles of two classes."""
    root = tmp_path_factory.mktemp("tiny data ü")  # spaces and other letters simply work
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(90, 120, (64, 64, 3), dtype=np.uint8)
            rows = []
            for class_ in (0, 1):
                width, height = rng.integers(14, 30, 2)
                x, y = rng.integers(0, 64 - width), rng.integers(0, 64 - height)
                image[y : y + height, x : x + width] = (255, 30, 30) if class_ else (30, 30, 255)
                rows.append(f"{class_} {(x + width / 2) / 64} {(y + height / 2) / 64} {width / 64} {height / 64}")
            cv2.imencode(".png", image)[1].tofile(root / "images" / split / f"{i}.png")
            (root / "labels" / split / f"{i}.txt").write_text("\n".join(rows))
    path = root / "tiny.yaml"
    path.write_text("path: .\ntrain: images/train\nval: images/val\nnames: [red, blue]\n")
    return path


@pytest.fixture(scope="session")
def tiny_model() -> str:
    return str(Path(__file__).with_name("tiny.yaml"))
