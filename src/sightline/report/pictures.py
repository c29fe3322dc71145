"""The pictures of a run, made small enough to travel inside the page."""

from __future__ import annotations

import base64
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

# Name pattern → title, the most telling first: where the budget ends, the rest stay out, and the page says so. Curves
# and matrices are not among them: the page draws those itself, from numbers.
WANTED = (
    ("val_batch*_labels.jpg", "Validation: labels"),
    ("val_batch*_pred.jpg", "Validation: predictions"),
    ("labels.jpg", "Labels of the training set"),
    ("labels_keypoints.jpg", "Keypoints of the training set"),
    ("train_batch*.jpg", "Examples: training images as the network sees them"),
)
SIDE = 1000  # pixels of the longer side
QUALITY = 78  # of JPEG; below, thin lines and small letters fray


def pictures_of(folder: Path, *, budget: int) -> dict[str, Any]:
    """`shown`: title, file name, size and data URI of each picture that fits into `budget` bytes; `left_out`: names."""
    shown: list[dict[str, Any]] = []
    left_out: list[str] = []
    for pattern, title in WANTED:
        for file in sorted(folder.glob(pattern)):
            made = _embedded(file)
            if made is None or len(made["uri"]) > budget:
                left_out.append(file.name)
                continue
            budget -= len(made["uri"])
            shown.append({"title": title, "file": file.name, **made})
    return {"shown": shown, "left_out": left_out}


def showcase_of(validation: dict[str, Any], *, budget: int) -> list[dict[str, Any]]:
    """Best and worst images, taken out of the record of a validation, with data URIs; as many as fit."""
    rows: list[dict[str, Any]] = []
    for row in validation.pop("showcase", []):
        uri = f"data:image/jpeg;base64,{row.pop('jpeg')}"
        if len(uri) <= budget:
            budget -= len(uri)
            rows.append({**row, "uri": uri})
    return rows


def data_uri(jpeg: bytes) -> str:
    """A JPEG as the address of itself."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _embedded(file: Path) -> dict[str, Any] | None:
    """The picture with sides of at most `SIDE`; None where it cannot be read."""
    try:
        status = file.stat()
    except OSError:
        return None
    made = _reduced(file, status.st_mtime_ns, status.st_size)
    return None if made is None else dict(made)


@lru_cache(maxsize=64)
def _reduced(file: Path, _changed: int, _bytes: int) -> dict[str, Any] | None:
    """Remembered for as long as the file is the same: a page that is watched is made again and again."""
    try:
        picture = cv2.imdecode(np.fromfile(file, dtype=np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None
    if picture is None:
        return None
    height, width = picture.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    if scale < 1:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        return None
    return {"width": picture.shape[1], "height": picture.shape[0], "uri": data_uri(data.tobytes())}
