"""What the loss tests have in common: recorded inputs as batches, and a model that is just what a loss reads of it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn


def stand_in_model(*, nc: int, reg_max: int, strides=(8, 16, 32), class_weights=None, **args) -> nn.Module:
    """The parts of a model that the losses read, and nothing else."""

    class StandIn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.anything = nn.Parameter(torch.zeros(1))
            self.args = SimpleNamespace(**{"box": 7.5, "cls": 0.5, "dfl": 1.5, "epochs": 100, **args})
            self.model = [SimpleNamespace(stride=torch.tensor([float(s) for s in strides]), nc=nc, reg_max=reg_max)]
            if class_weights is not None:
                self.class_weights = class_weights

    return StandIn()


def feature_maps(image_hw, strides) -> list[torch.Tensor]:
    return [torch.zeros(1, 1, int(image_hw[0]) // int(s), int(image_hw[1]) // int(s)) for s in strides]


def relative_error(actual, expected: np.ndarray) -> float:
    """max|a−b| / max|b|, the measure of the README; 0 for empty arrays."""
    actual = np.asarray(actual.detach() if isinstance(actual, torch.Tensor) else actual)
    assert actual.shape == expected.shape
    if not expected.size:
        return 0.0
    difference = float(np.abs(actual.astype(np.float64) - expected).max())
    return difference / max(float(np.abs(expected).max()), 1e-12) if difference else 0.0


def load(path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def cases(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """`case.name` → {case: {name: array}}; names without a case are left out."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, value in arrays.items():
        if "." in key:
            case, name = key.split(".", 1)
            found.setdefault(case, {})[name] = value
    return found


def target_batch(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(arrays[name]) for name in ("batch_idx", "cls", "bboxes")}
