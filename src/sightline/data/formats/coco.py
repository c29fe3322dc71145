"""COCO instance annotations (one JSON file a split) → YOLO label files.

Source: https://cocodataset.org/#format-data. Boxes are [left, top, width, height] in pixels; crowd regions stand for
many objects at once and are left out. Categories in the order of their ids become classes 0, 1, 2, …
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.formats.voc import yolo_text
from sightline.errors import DataError

SPLITS = ("train2017", "val2017")


def convert(root: Path) -> None:
    """annotations/instances_<split>.json below `root` → labels/<split>. Images without objects get no label file."""
    for split in SPLITS:
        path = root / "annotations" / f"instances_{split}.json"
        if not path.is_file():
            raise DataError(f"{path} is missing; the archives of COCO did not unpack as expected.")
        folder = root / "labels" / split
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in read_annotations(json.loads(path.read_text(encoding="utf-8"))).items():
            (folder / f"{Path(name).stem}.txt").write_text(yolo_text(rows), encoding="utf-8")


def read_annotations(content: dict[str, Any]) -> dict[str, np.ndarray]:
    """Image file name → (N, 5) float64 class, cx, cy, w, h divided by the image size, for images with objects."""
    classes = {item["id"]: i for i, item in enumerate(sorted(content["categories"], key=lambda item: item["id"]))}
    images = {item["id"]: item for item in content["images"]}
    rows: dict[str, list[list[float]]] = defaultdict(list)
    for item in content["annotations"]:
        if item.get("iscrowd"):
            continue
        image = images[item["image_id"]]
        left, top, width, height = item["bbox"]
        x1, x2 = np.clip([left, left + width], 0, image["width"]) / image["width"]
        y1, y2 = np.clip([top, top + height], 0, image["height"]) / image["height"]
        if x2 > x1 and y2 > y1:
            rows[image["file_name"]].append(
                [classes[item["category_id"]], (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
            )
    return {name: np.array(found) for name, found in rows.items()}
