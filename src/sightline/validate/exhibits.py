"""An image of the final validation as the report shows it: its boxes, sorted into right, wrong and missed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.artifacts.showcase import BOXES, Showcase
from sightline.validate.error_pictures import sort_out


def exhibit(
    showcase: Showcase,
    prediction: Mapping[str, Tensor],
    truth: Mapping[str, Tensor],
    overlap: np.ndarray,
    batch: Mapping[str, Any],
    i: int,
    *,
    names: Mapping[int, str],
    file: str,
    conf: float,
) -> None:
    """Show image `i` of a batch to the showcase, which keeps it if it is among the best or the worst.

    Args:
        prediction, truth: of this image, as `DetectionValidator.postprocess` and `labelled` give them.
        overlap: (T, P) IoU of the boxes.
        names: class index → name.
        file: what to call it.
        conf: predictions below are left out.
    """
    scores, predicted, true = (values.numpy() for values in (prediction["conf"], prediction["cls"], truth["cls"]))
    right, wrong, missed = sort_out(overlap, scores, predicted, true, conf=conf)
    size = np.array(tuple(batch["img"].shape[2:])[::-1], dtype=float)  # width, height

    def rows() -> list[dict[str, Any]]:
        labels = [_row("label", names, truth, k, size) for k in range(len(true))]
        found = [_row("right", names, prediction, k, size) for k in right]
        bad = [_row("wrong", names, prediction, k, size) for k in wrong]
        lost = [_row("missed", names, truth, k, size) for k in missed]
        return [row for kind in (labels, found, bad, lost) for row in kind[:BOXES]]

    showcase.add(
        file, lambda: _picture(batch["img"][i]), right=len(right), wrong=len(wrong), missed=len(missed), boxes=rows
    )


def _row(
    kind: str, names: Mapping[int, str], objects: Mapping[str, Tensor], k: int, size: np.ndarray
) -> dict[str, Any]:
    """Kind, corners in parts of the image, class, and where there are some, score and keypoints (x, y)."""
    x1, y1, x2, y2 = (float(value) for value in objects["bboxes"][k])
    row = {
        "kind": kind,
        "box": [round(value, 4) for value in (x1 / size[0], y1 / size[1], x2 / size[0], y2 / size[1])],
        "text": str(names.get(int(objects["cls"][k]), "?")),
    }
    if "conf" in objects:
        row["score"] = round(float(objects["conf"][k]), 3)
    if "keypoints" in objects:
        points = objects["keypoints"][k]
        seen = points[points[:, 2] > 0] if points.shape[1] > 2 and kind in ("label", "missed") else points
        row["points"] = [[round(float(x) / size[0], 4), round(float(y) / size[1], 4)] for x, y in seen[:, :2]]
    return row


def _picture(image: Tensor) -> np.ndarray:
    """(3, H, W) RGB in [0, 1] → (H, W, 3) uint8 BGR."""
    values = (image.detach().float().cpu() * 255).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(values.permute(1, 2, 0).numpy()[..., ::-1])
