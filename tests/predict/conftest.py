"""A network without weights that finds one thing for certain, and the pictures and videos it is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightline.predict.detect import DetectionPredictor

SCORES = (0.9, 0.6, 0.3, 0.1)
CLASSES = (0, 1, 0, 1)


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.end2end, self.max_det, self.agnostic_nms = False, 300, False


class RedFinder(nn.Module):
    """Reports the bounding box of all pure red pixels of its input, four times with falling scores.

    So a test knows where the box must come out in the original picture, whatever happened to the picture in between.
    NMS-free rows are (B, 4, 6); the other branch gives (B, 4 + 2, 4) centre and size.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.model = nn.ModuleList([Head()])
        self.names, self.nc, self.stride, self.yaml = {0: "square", 1: "thing"}, 2, torch.tensor([8.0, 16.0, 32.0]), {}
        self.end2end = True  # has the branch
        self.inputs: list[Tensor] = []
        self.fused = False

    def use_end2end(self, on: bool) -> None:
        self.model[-1].end2end = on

    def fuse(self, verbose: bool = True) -> RedFinder:
        self.fused = True
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Any]:
        assert not self.training
        self.inputs.append(images.clone())
        boxes = torch.stack([_bounds(image) for image in images])  # (B, 4)
        if self.model[-1].end2end:
            rest = torch.tensor([SCORES, CLASSES]).T.expand(len(images), -1, -1)  # (B, 4, 2)
            return torch.cat([boxes[:, None].expand(-1, len(SCORES), -1), rest], dim=2), {}
        size = boxes[:, 2:] - boxes[:, :2]
        xywh = torch.cat([boxes[:, :2] + size / 2, size], dim=1)
        scores = torch.zeros(len(images), 2, len(SCORES))
        scores[:, list(CLASSES), list(range(len(SCORES)))] = torch.tensor(SCORES)
        return torch.cat([xywh[:, :, None].expand(-1, -1, len(SCORES)), scores], dim=1), {}


def _bounds(image: Tensor) -> Tensor:
    red = (image[0] > 0.9) & (image[1] < 0.1) & (image[2] < 0.1)
    if not red.any():
        return torch.zeros(4)
    rows, columns = red.nonzero().unbind(1)
    return torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=torch.float32)


def picture(height: int = 60, width: int = 100, box: tuple[int, int, int, int] = (20, 10, 60, 50)) -> np.ndarray:
    """Grey with a red rectangle. BGR."""
    image = np.full((height, width, 3), 128, np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = (0, 0, 255)
    return image


@pytest.fixture
def network() -> RedFinder:
    return RedFinder()


@pytest.fixture
def draw() -> Callable[..., np.ndarray]:
    return picture


@pytest.fixture
def make_predictor(tmp_path: Path) -> Callable[..., DetectionPredictor]:
    """A predictor at 64 px whose run folder, if it makes one, is tmp_path / "runs" / "predict"."""

    def make(**settings: Any) -> DetectionPredictor:
        callbacks = settings.pop("callbacks", None)
        defaults = {"imgsz": 64, "device": "cpu", "project": str(tmp_path / "runs")}
        return DetectionPredictor(defaults | settings, _callbacks=callbacks)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two readable images of different shapes, a damaged one, an empty one, a text file, a subfolder with an image."""
    place = tmp_path / "pictures"
    (place / "deeper").mkdir(parents=True)
    cv2.imwrite(str(place / "a.png"), picture())
    cv2.imwrite(str(place / "d.png"), picture(90, 50, (10, 30, 40, 80)))
    (place / "b.jpg").write_bytes(b"this is no picture")
    (place / "c.jpg").write_bytes(b"")
    (place / "notes.md").write_text("words")
    cv2.imwrite(str(place / "deeper" / "e.png"), picture())
    return place


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Seven frames of 64 × 48 at 10 frames a second; frame i has the grey value 30 i."""
    file = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for index in range(7):
        writer.write(np.full((48, 64, 3), 30 * index, np.uint8))
    writer.release()
    return file
