"""Where a run runs and what its data are like, for those who look at its folder later."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import sightline

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

SIDES = (0, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)  # pixels; doubling, as the strides of a network do
PER_IMAGE = (0, 1, 2, 3, 5, 9, 17, 33, 65, 129, 1025)
LEAST_SIDE = 8  # pixels of the network input: the finest stride of most networks


def environment(trainer: BaseTrainer) -> dict[str, Any]:
    """Versions, machine and device."""
    device = trainer.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "sightline": sightline.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": f"{device} ({name})",
        "precision": f"{trainer.precision.name} ({trainer.precision.reason})",
        "processes": trainer.world_size,
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "folder": os.getcwd(),
    }


def data_summary(trainer: BaseTrainer) -> dict[str, Any]:
    """How large the objects of the training set are at this image size, and how many an image has; {} if unknown."""
    index = getattr(getattr(trainer.train_loader, "dataset", None), "index", None)
    size = trainer.args.imgsz
    if index is None or not len(index) or not isinstance(size, int):  # a user's own data set need not have labels
        return {}
    counts = index.object_counts()
    sides = object_sides(index.boxes, np.repeat(index.shapes, counts, axis=0), size)
    small = float((sides < LEAST_SIDE).mean()) if len(sides) else 0.0
    return {
        "sides": _histogram(sides, SIDES),
        "side_edges": list(SIDES),
        "per_image": _histogram(counts, PER_IMAGE),
        "per_image_edges": list(PER_IMAGE),
        "text": f"At imgsz={size}, {small:.1%} of the objects are smaller than {LEAST_SIDE} pixels.",
    }


def object_sides(boxes: np.ndarray, shapes: np.ndarray, size: int) -> np.ndarray:
    """(R,) √(width × height) of objects in pixels of the network input.

    Args:
        boxes: (R, 4) xywh divided by the image size.
        shapes: (R, 2) height and width of the image that each is in.
        size: of the longer side of the network input.
    """
    scale = size / np.maximum(shapes.max(axis=1), 1)
    return np.sqrt(boxes[:, 2] * shapes[:, 1] * boxes[:, 3] * shapes[:, 0]) * scale


def _histogram(values: np.ndarray, edges: tuple[int, ...]) -> list[int]:
    """Counts between edges; what lies above the last is in the last bar."""
    return [int(n) for n in np.histogram(np.minimum(values, edges[-1]), bins=np.array(edges))[0]]
