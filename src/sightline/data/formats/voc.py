"""PASCAL VOC: one XML file an image, split lists in ImageSets/Main.

Source: The PASCAL VOC2012 Development Kit, section 3 (annotations; pixel coordinates start at 1 and include both ends).
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from sightline.errors import DataError

CLASSES = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]  # fmt: skip
YEARS = {"2007": ("train", "val", "test"), "2012": ("train", "val")}


def convert(root: Path) -> None:
    """VOCdevkit/VOC<year> below `root` → images/<split><year>, labels/<split><year>. The images are moved."""
    for year, splits in YEARS.items():
        devkit = root / "VOCdevkit" / f"VOC{year}"
        for split in splits:
            listed = devkit / "ImageSets" / "Main" / f"{split}.txt"
            if not listed.is_file():
                raise DataError(f"{listed} is missing; the archives of VOC {year} did not unpack as expected.")
            images, labels = root / "images" / f"{split}{year}", root / "labels" / f"{split}{year}"
            images.mkdir(parents=True, exist_ok=True)
            labels.mkdir(parents=True, exist_ok=True)
            for name in listed.read_text(encoding="utf-8").split():
                rows = read_annotation(devkit / "Annotations" / f"{name}.xml")
                (labels / f"{name}.txt").write_text(yolo_text(rows), encoding="utf-8")
                os.replace(devkit / "JPEGImages" / f"{name}.jpg", images / f"{name}.jpg")


def read_annotation(path: Path, classes: list[str] | None = None, *, difficult: bool = False) -> np.ndarray:
    """The objects of one XML file.

    Args:
        difficult: keep the objects marked as difficult, which the VOC challenge does not count.

    Returns:
        (N, 5) float64 class, cx, cy, w, h divided by the image size.

    Raises:
        DataError: not such an XML file.
    """
    names = classes or CLASSES
    content = path.read_bytes()
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise DataError(f"{path} declares a document type, which annotation files have no use for; it is not read.")
    rows = []
    try:
        tree = ElementTree.fromstring(content)
        width, height = (float(_text(tree, f"size/{side}")) for side in ("width", "height"))
        for item in tree.iter("object"):
            name = _text(item, "name")
            if name not in names or (item.findtext("difficult", "0").strip() == "1" and not difficult):
                continue
            x1, y1, x2, y2 = (float(_text(item, f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
            x1, y1 = x1 - 1, y1 - 1  # pixel 1 spans 0 … 1
            corners = np.array([x1 / width, y1 / height, x2 / width, y2 / height]).clip(0, 1)
            rows.append([names.index(name), *(corners[:2] + corners[2:]) / 2, *(corners[2:] - corners[:2])])
    except (ElementTree.ParseError, ValueError, ZeroDivisionError) as error:
        raise DataError(f"{path} is not a VOC annotation: {error}") from error
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


def _text(item: ElementTree.Element, key: str) -> str:
    text = item.findtext(key)
    if text is None:
        raise ValueError(f"<{key.replace('/', '><')}> is missing")
    return text.strip()


def yolo_text(rows: np.ndarray) -> str:
    """(N, 5) → the lines of a YOLO label file."""
    return "".join(f"{int(row[0])} {row[1]:.6f} {row[2]:.6f} {row[3]:.6f} {row[4]:.6f}\n" for row in rows)
