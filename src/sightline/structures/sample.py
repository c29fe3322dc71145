"""One image with what is in it, on its way from the files to a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Labels:
    """The N objects of an image, in pixels of that image.

    Attributes:
        boxes: (N, 4) float32 xyxy.
        classes: (N,) float32, whole numbers.
        polygons: N outlines of (P, 2) float32 x, y, P may differ; None when the data has none.
        keypoints: (N, K, 3) float32 x, y, visibility (0 not labelled, 1 hidden, 2 visible); None when there are none.
    """

    boxes: Array
    classes: Array
    polygons: list[Array] | None = None
    keypoints: Array | None = None

    @classmethod
    def empty(cls) -> Labels:
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))

    def __len__(self) -> int:
        return len(self.classes)

    def select(self, keep: Array) -> Labels:
        """The objects at these places: (N,) bool, or int positions in the order wanted."""
        places = np.flatnonzero(keep) if keep.dtype == bool else keep
        return Labels(
            boxes=self.boxes[places],
            classes=self.classes[places],
            polygons=None if self.polygons is None else [self.polygons[i] for i in places],
            keypoints=None if self.keypoints is None else self.keypoints[places],
        )

    def moved(self, boxes: Callable[[Array], Array], points: Callable[[Array], Array]) -> Labels:
        """With coordinates replaced: `boxes` maps (N, 4) xyxy, `points` maps (M, 2) x, y. Visibility stays."""
        polygons, keypoints = self.polygons, self.keypoints
        if polygons:
            together, ends = (
                points(np.concatenate(polygons)),
                np.cumsum([len(polygon) for polygon in polygons]).tolist(),
            )
            polygons = [together[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        if keypoints is not None:
            xy = points(keypoints[..., :2].reshape(-1, 2)).reshape(*keypoints.shape[:2], 2)
            keypoints = np.concatenate([xy, keypoints[..., 2:]], axis=-1)
        return Labels(boxes(self.boxes), self.classes, polygons, keypoints)

    def shifted(self, x: float, y: float) -> Labels:
        """Moved right by `x` and down by `y` pixels."""
        offset = np.array([x, y, x, y], np.float32)
        return self.moved(lambda boxes: boxes + offset, lambda points: points + offset[:2])

    def placed(self, x: float, y: float, right: float, bottom: float, left: float, top: float) -> Labels:
        """`shifted`, then `clipped`, in one pass. Keypoints beyond the frame are not labelled there."""
        offset = np.array([x, y] * 2, np.float32)
        low, high = np.array([left, top] * 2, np.float32), np.array([right, bottom] * 2, np.float32)
        placed = self.moved(
            lambda boxes: (boxes + offset).clip(low, high),
            lambda points: (points + offset[:2]).clip(low[:2], high[:2]),
        )
        if placed.keypoints is None or self.keypoints is None:
            return placed
        cut = (self.keypoints[..., :2] + offset[:2] != placed.keypoints[..., :2]).any(axis=-1)
        placed.keypoints[..., 2][cut] = 0
        return placed

    def clipped(self, right: float, bottom: float, left: float = 0.0, top: float = 0.0) -> Labels:
        """With all coordinates moved into a frame, pixels. Nothing is dropped, visibility stays."""
        low, high = np.array([left, top] * 2, np.float32), np.array([right, bottom] * 2, np.float32)
        return self.moved(lambda boxes: boxes.clip(low, high), lambda points: points.clip(low[:2], high[:2]))

    @staticmethod
    def concatenate(parts: Sequence[Labels]) -> Labels:
        """All objects of several images. Polygons or keypoints are kept only if every part with objects has them."""
        parts = [part for part in parts if len(part)] or list(parts[:1])
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return Labels.empty()
        polygons: list[Array] | None = []
        for part in parts:
            polygons = None if polygons is None or part.polygons is None else polygons + part.polygons
        keypoints = [part.keypoints for part in parts if part.keypoints is not None]
        return Labels(
            boxes=np.concatenate([part.boxes for part in parts]),
            classes=np.concatenate([part.classes for part in parts]),
            polygons=polygons,
            keypoints=np.concatenate(keypoints) if len(keypoints) == len(parts) else None,
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and its objects. Never changed in place: transforms return a new one (images may be shared).

    Attributes:
        image: (H, W, C) uint8; three channels are blue, green, red.
        labels: the objects, in pixels of `image`.
        path: file of the (first) image.
        index: its number in the data set.
        original_shape: (height, width) of that file.
        resized_shape: (height, width) of the image that the network's frame was made from.
        ratio_pad: ((gain y, gain x), (pad x, pad y)) from the file to `image`. Random transforms leave it alone: an
            augmented image has no single ratio.
    """

    image: Array
    labels: Labels = field(default_factory=Labels.empty)
    path: str = ""
    index: int = -1
    original_shape: tuple[int, int] = (0, 0)
    resized_shape: tuple[int, int] = (0, 0)
    ratio_pad: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 1.0), (0.0, 0.0))

    @property
    def height(self) -> int:
        return int(self.image.shape[0])

    @property
    def width(self) -> int:
        return int(self.image.shape[1])

    @property
    def channels(self) -> int:
        return int(self.image.shape[2])

    @property
    def boxes(self) -> Array:
        return self.labels.boxes

    @property
    def classes(self) -> Array:
        return self.labels.classes

    @property
    def polygons(self) -> list[Array] | None:
        return self.labels.polygons

    @property
    def keypoints(self) -> Array | None:
        return self.labels.keypoints

    def with_(self, **changes: Any) -> Sample:
        """A copy with these attributes replaced."""
        return replace(self, **changes)
