"""The validation images that went best and worst, small enough to travel in validation.json."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

KEPT = 6  # of the best and of the worst
SIDE = 512  # pixels of the longer side
QUALITY = 78
BOXES = 150  # of a kind in one image; a page of more is no picture


@dataclass(frozen=True, slots=True)
class Shown:
    """One image.

    Attributes:
        name: of the file.
        f1: of the image at the confidence of the confusion matrix, in [0, 1].
        errors: wrong predictions and missed objects together; `objects` that are labelled.
        boxes: kind ("label", "right", "wrong", "missed"), corners as parts of the image, text, keypoints.
        jpeg, width, height: the picture.
    """

    name: str
    f1: float
    errors: int
    objects: int
    boxes: list[dict[str, Any]]
    jpeg: bytes
    width: int
    height: int


class Showcase:
    """Keeps the best and the worst of the images that it is shown."""

    def __init__(self) -> None:
        self.best: list[Shown] = []
        self.worst: list[Shown] = []

    def add(
        self,
        name: str,
        image: Callable[[], np.ndarray],
        *,
        right: int,
        wrong: int,
        missed: int,
        boxes: Callable[[], Any],
    ) -> None:
        """Look at one image; the picture and its boxes are only asked for if it is kept.

        Args:
            name: of the file.
            image: gives (H, W, 3) uint8 BGR.
            right, wrong: predictions above the confidence.
            missed: objects without one.
            boxes: gives rows as in `Shown.boxes`.
        """
        objects, errors = right + missed, wrong + missed
        if objects + wrong == 0:
            return  # an empty image that was seen as empty shows nothing
        f1 = 2 * right / (2 * right + errors)
        probe = Shown(name, f1, errors, objects, [], b"", 0, 0)
        wanted_best = right > 0 and self._fits(self.best, probe, _goodness)
        wanted_worst = errors > 0 and self._fits(self.worst, probe, _badness)
        if not (wanted_best or wanted_worst):
            return
        picture = _small(image())
        done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not done:
            return
        shown = Shown(name, f1, errors, objects, boxes(), data.tobytes(), picture.shape[1], picture.shape[0])
        if wanted_best:
            self.best = _first(self.best, shown, _goodness)
        if wanted_worst:
            self.worst = _first(self.worst, shown, _badness)

    def merge(self, other: Showcase) -> None:
        """Take over what another rank has kept."""
        for shown in other.best:
            self.best = _first(self.best, shown, _goodness)
        for shown in other.worst:
            self.worst = _first(self.worst, shown, _badness)

    def rows(self) -> list[dict[str, Any]]:
        """Plain values for JSON, the worst first; an image is not shown as best and worst at once."""
        worst = {shown.name for shown in self.worst}
        return [_row("worst", shown) for shown in self.worst] + [
            _row("best", shown) for shown in self.best if shown.name not in worst
        ]

    @staticmethod
    def _fits(kept: list[Shown], shown: Shown, key: Callable[[Shown], Any]) -> bool:
        return len(kept) < KEPT or key(shown) > key(kept[-1])


def _goodness(shown: Shown) -> tuple[float, int]:
    return shown.f1, shown.objects  # of two without a mistake, the one with more to find


def _badness(shown: Shown) -> tuple[float, int]:
    return -shown.f1, shown.errors


def _first(kept: list[Shown], shown: Shown, key: Callable[[Shown], Any]) -> list[Shown]:
    return sorted([*kept, shown], key=key, reverse=True)[:KEPT]  # stable: of equals the earlier stays


def _small(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    scale = min(1.0, SIDE / max(height, width, 1))
    if scale == 1:
        return picture
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _row(kind: str, shown: Shown) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": shown.name,
        "f1": round(shown.f1, 4),
        "errors": shown.errors,
        "objects": shown.objects,
        "boxes": shown.boxes,
        "width": shown.width,
        "height": shown.height,
        "jpeg": base64.b64encode(shown.jpeg).decode("ascii"),
    }
