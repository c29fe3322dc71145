"""VisDrone-DET: one text file an image, `left,top,width,height,score,category,truncation,occlusion` in pixels a line.

Category 0 is a region to ignore, 1 … 10 are the classes, 11 is other things; score 0 marks what the evaluation ignores.

Source: Zhu et al., Vision Meets Drones: Past, Present and Future, arXiv:2001.06303, and the data set's README.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sightline.data.formats.voc import yolo_text
from sightline.data.verify import inspect_image
from sightline.errors import DataError

FOLDERS = {"train": "VisDrone2019-DET-train", "val": "VisDrone2019-DET-val", "test": "VisDrone2019-DET-test-dev"}


def convert(root: Path) -> None:
    """VisDrone2019-DET-<split> below `root` → images/<split>, labels/<split>. The images are moved."""
    for split, folder in FOLDERS.items():
        source = root / folder
        if not source.is_dir():
            raise DataError(f"{source} is missing; the archives of VisDrone did not unpack as expected.")
        images, labels = root / "images" / split, root / "labels" / split
        labels.mkdir(parents=True, exist_ok=True)
        images.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source / "images", images)
        for annotation in sorted((source / "annotations").glob("*.txt")):
            facts = inspect_image(images / f"{annotation.stem}.jpg")
            rows = read_annotation(
                annotation.read_text(encoding="utf-8"), facts.width, facts.height, name=str(annotation)
            )
            (labels / annotation.name).write_text(yolo_text(rows), encoding="utf-8")


def read_annotation(text: str, width: int, height: int, *, name: str = "annotation") -> np.ndarray:
    """The objects of one file.

    Returns:
        (N, 5) float64 class 0 … 9, cx, cy, w, h divided by the image size.

    Raises:
        DataError: a line has no eight numbers.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            left, top, w, h, score, category = (int(part) for part in line.strip().rstrip(",").split(",")[:6])
        except ValueError:
            raise DataError(
                f"{name} line {number}: expected left,top,width,height,score,category,…, found {line!r:.60}"
            ) from None
        if score == 0 or not 1 <= category <= 10:
            continue
        x1, x2 = np.clip([left, left + w], 0, width) / width
        y1, y2 = np.clip([top, top + h], 0, height) / height
        rows.append([category - 1, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
    return np.array(rows, dtype=np.float64).reshape(-1, 5)
