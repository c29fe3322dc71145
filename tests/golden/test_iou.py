"""Overlaps against the recorded ones: `training/iou.npz`, every array of the file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from golden.golden import golden_files
from sightline.ops.iou import matched_iou, matched_probabilistic_iou

INPUTS = {"xywh1", "xywh2", "xyxy1", "xyxy2", "xywhr1", "xywhr2"}


def _relative(actual: np.ndarray, expected: np.ndarray) -> float:
    finite = np.isfinite(expected)  # centre input without a height may be recorded as NaN
    return float(np.abs(actual - expected)[finite].max() / np.abs(expected[finite]).max())


@pytest.mark.parametrize("path", golden_files("training/iou.npz"))
def test_overlaps(path):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    compared = set()
    for name, expected in arrays.items():
        if name.endswith(("_xyxy", "_xywh")):
            kind, layout = name.rsplit("_", 1)
            first, second = (torch.from_numpy(arrays[f"{layout}{i}"]) for i in (1, 2))
            actual = matched_iou(first, second, kind, xywh=layout == "xywh").squeeze(-1).numpy()
            tolerance = 1e-5
        elif name.startswith("probiou"):
            floor = 0.01 if name.endswith("floor001") else 0.0
            first, second = (torch.from_numpy(arrays[f"xywhr{i}"]) for i in (1, 2))
            actual = matched_probabilistic_iou(first, second, floor=floor).squeeze(-1).numpy()
            tolerance = 5e-5  # nearly equal boxes cancel; another processor may round otherwise
        elif name.startswith("ciou_xyxy_grad1_from"):
            start = int(name.removeprefix("ciou_xyxy_grad1_from"))
            first = torch.from_numpy(arrays["xyxy1"])[start:].requires_grad_()
            (1 - matched_iou(first, torch.from_numpy(arrays["xyxy2"])[start:], "ciou")).sum().backward()
            actual, tolerance = first.grad.numpy(), 1e-4
        else:
            assert name in INPUTS, f"{path.name} holds {name}, which no comparison knows"
            continue
        assert _relative(actual, expected) <= tolerance, name
        compared.add(name)
    assert len(compared) >= 11
