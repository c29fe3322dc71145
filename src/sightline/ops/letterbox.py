"""Where an image lands in a frame of another shape: scale, padding, and the shapes of rectangular batches.

Arithmetic only; `data/transforms/letterbox.py` moves the pixels, `boxes.scale_boxes` brings predictions back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sightline.ops.boxes import RatioPad

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class LetterboxGeometry:
    """An image scaled by `ratio` to `new_wh` and surrounded by `pad`.

    Attributes:
        ratio: (x, y) factors for coordinates. They are nominal: `new_wh` is rounded to whole pixels, they are not.
        new_wh: (width, height) of the scaled image, pixels.
        pad: (left, top, right, bottom) border, pixels.
    """

    ratio: tuple[float, float]
    new_wh: tuple[int, int]
    pad: tuple[int, int, int, int]

    @property
    def out_hw(self) -> tuple[int, int]:
        """(height, width) of the framed image."""
        left, top, right, bottom = self.pad
        return self.new_wh[1] + top + bottom, self.new_wh[0] + left + right

    def points(self, points: Array) -> Array:
        """(..., 2) x, y in pixels of the image → pixels of the frame."""
        moved: Array = points * np.array(self.ratio, points.dtype) + np.array(self.pad[:2], points.dtype)
        return moved

    def boxes(self, boxes: Array) -> Array:
        """(..., 4) xyxy in pixels of the image → pixels of the frame."""
        moved: Array = boxes * np.array(self.ratio * 2, boxes.dtype) + np.array(self.pad[:2] * 2, boxes.dtype)
        return moved

    def ratio_pad(self, gain_hw: tuple[float, float] = (1.0, 1.0)) -> RatioPad:
        """((gain y, gain x), (pad x, pad y)) back to an image that was first resized by `gain_hw`."""
        gains = gain_hw[0] * self.ratio[1], gain_hw[1] * self.ratio[0]
        return gains, (float(self.pad[0]), float(self.pad[1]))


def letterbox_geometry(
    shape_hw: tuple[int, int],
    target_hw: tuple[int, int],
    *,
    auto: bool = False,
    scale_fill: bool = False,
    scaleup: bool = True,
    center: bool = True,
    stride: int = 32,
) -> LetterboxGeometry:
    """Fit an image into a frame, keeping its aspect ratio.

    Args:
        shape_hw: height and width of the image, pixels, ≥ 1.
        target_hw: height and width of the frame.
        auto: pad only up to the next multiple of `stride`, so the result may be smaller than the frame.
        scale_fill: stretch to the frame instead of padding (not with `auto`).
        scaleup: allow enlarging.
        center: half of the border on each side; else all of it right and below.
        stride: of the network, pixels.
    """
    (height, width), (target_height, target_width) = shape_hw, target_hw
    ratio = min(target_height / height, target_width / width)
    if not scaleup:
        ratio = min(ratio, 1.0)
    # A very flat image must not vanish.
    new_width, new_height = max(round(width * ratio), 1), max(round(height * ratio), 1)
    if auto:
        border_x, border_y = (target_width - new_width) % stride, (target_height - new_height) % stride
    elif scale_fill:
        stretch = target_width / width, target_height / height
        return LetterboxGeometry(stretch, (target_width, target_height), (0, 0, 0, 0))
    else:
        border_x, border_y = target_width - new_width, target_height - new_height
    left, right = _split(border_x, center)
    top, bottom = _split(border_y, center)
    return LetterboxGeometry((ratio, ratio), (new_width, new_height), (left, top, right, bottom))


def _split(border: int, center: bool) -> tuple[int, int]:
    """The border before and after; an odd pixel goes after."""
    before = border // 2 if center else 0
    return before, border - before


class RectBatches(NamedTuple):
    """Images grouped by aspect ratio.

    order: (n,) image numbers, flat images first. batch: (n,) the batch of each, in that order.
    shapes: (batches, 2) height and width of each batch, pixels.
    """

    order: npt.NDArray[np.int64]
    batch: npt.NDArray[np.int64]
    shapes: npt.NDArray[np.int64]


def rect_batches(
    shapes_hw: Array | Sequence[tuple[int, int]], *, batch: int, imgsz: int, stride: int = 32, pad: float = 0.0
) -> RectBatches:
    """Group images of like shape, so that a batch needs little padding.

    Args:
        shapes_hw: (n, 2) heights and widths; only their ratio counts.
        batch: images per batch; the last one may be smaller.
        imgsz: long side of a batch before `pad`, pixels.
        stride: batch sides are multiples of it.
        pad: extra border in strides; 0.5 in validation.
    """
    shapes = np.asarray(shapes_hw, dtype=np.float64).reshape(-1, 2)
    aspect = shapes[:, 0] / shapes[:, 1]
    order = np.argsort(aspect, kind="stable")
    number = np.arange(len(order)) // batch
    factors = np.ones((int(number[-1]) + 1 if len(number) else 0, 2))
    for i in range(len(factors)):
        group = aspect[order[number == i]]
        if group.max() < 1:
            factors[i, 0] = group.max()
        elif group.min() > 1:
            factors[i, 1] = 1 / group.min()
    batch_shapes = np.ceil(factors * imgsz / stride + pad).astype(np.int64) * stride
    return RectBatches(order, number, batch_shapes)
