"""Box formats, clipping, and the way back from a letterboxed image to the original one.

Formats, all (..., 4): `xyxy` corners, `xywh` centre and size, `ltwh` left, top and size; a trailing `n` in a name means
divided by the image's width and height. Functions take torch tensors or NumPy arrays and return the same kind; nothing
is changed in place. Overlaps are in `iou.py`, keypoints in `keypoints.py`, the letterbox itself in `letterbox.py`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = TypeVar("Array", Tensor, npt.NDArray[Any])
RatioPad = tuple[
    tuple[float, float], tuple[float, float]
]  # ((gain y, gain x), (pad x, pad y)), as the loader stores it


def xyxy_to_xywh(boxes: Array) -> Array:
    """(..., 4) corners → centre and size."""
    x1, y1, x2, y2 = _columns(boxes)
    return _stack(boxes, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)


def xywh_to_xyxy(boxes: Array) -> Array:
    """(..., 4) centre and size → corners. A negative size gives corners in the wrong order, not an error."""
    x, y, width, height = _columns(boxes)
    half_width, half_height = width / 2, height / 2
    return _stack(boxes, x - half_width, y - half_height, x + half_width, y + half_height)


def inverse_sigmoid(values: Tensor, eps: float = 1e-5) -> Tensor:
    """(...) in [0, 1] → what the sigmoid makes them of, for coordinates that are learnt before it.

    Args:
        values: beyond [0, 1] they count as its end.
        eps: smallest value and smallest distance from 1 that is told apart; at the ends the result is ±log(eps).
    """
    values = values.clamp(0, 1)
    return (values.clamp(min=eps) / (1 - values).clamp(min=eps)).log()


def xyxy_to_ltwh(boxes: Array) -> Array:
    """(..., 4) corners → left, top and size."""
    x1, y1, x2, y2 = _columns(boxes)
    return _stack(boxes, x1, y1, x2 - x1, y2 - y1)


def ltwh_to_xyxy(boxes: Array) -> Array:
    """(..., 4) left, top and size → corners."""
    left, top, width, height = _columns(boxes)
    return _stack(boxes, left, top, left + width, top + height)


def xywh_to_ltwh(boxes: Array) -> Array:
    """(..., 4) centre and size → left, top and size."""
    x, y, width, height = _columns(boxes)
    return _stack(boxes, x - width / 2, y - height / 2, width, height)


def ltwh_to_xywh(boxes: Array) -> Array:
    """(..., 4) left, top and size → centre and size."""
    left, top, width, height = _columns(boxes)
    return _stack(boxes, left + width / 2, top + height / 2, width, height)


def xywhn_to_xyxy(boxes: Array, shape_hw: tuple[float, float], *, pad_xy: tuple[float, float] = (0.0, 0.0)) -> Array:
    """Normalised centre and size → corners in pixels.

    Args:
        boxes: (..., 4) x, y, width, height, divided by the size of the image.
        shape_hw: height and width of that image in pixels.
        pad_xy: pixels to add on the left and at the top, for an image that lies inside a larger one.
    """
    height, width = shape_hw
    x1, y1, x2, y2 = _columns(xywh_to_xyxy(boxes))
    pad_x, pad_y = pad_xy
    return _stack(boxes, x1 * width + pad_x, y1 * height + pad_y, x2 * width + pad_x, y2 * height + pad_y)


def xyxy_to_xywhn(boxes: Array, shape_hw: tuple[float, float], *, clip: bool = False, margin: float = 0.0) -> Array:
    """Corners in pixels → centre and size, divided by the size of the image.

    Args:
        boxes: (..., 4) corners.
        shape_hw: height and width of the image in pixels.
        clip: first move the corners into the image.
        margin: pixels that the right and bottom limits of that clipping lie inside the image.
    """
    height, width = shape_hw
    if clip:
        boxes = clip_boxes(boxes, (height - margin, width - margin))
    x, y, box_width, box_height = _columns(xyxy_to_xywh(boxes))
    return _stack(boxes, x / width, y / height, box_width / width, box_height / height)


def clip_boxes(boxes: Array, shape_hw: tuple[float, float]) -> Array:
    """(..., 4) corners, moved into [0, width] × [0, height]. A box outside becomes a line or a point on the border."""
    height, width = shape_hw
    x1, y1, x2, y2 = _columns(boxes)
    return _stack(boxes, x1.clip(0, width), y1.clip(0, height), x2.clip(0, width), y2.clip(0, height))


def scale_boxes(
    from_hw: tuple[int, int],
    boxes: Array,
    to_hw: tuple[int, int],
    ratio_pad: RatioPad | None = None,
    *,
    padding: bool = True,
    xywh: bool = False,
) -> Array:
    """Boxes of a letterboxed image, in the pixels of the original one.

    Args:
        from_hw: height and width of the letterboxed image (the network input).
        boxes: (..., 4 or more) boxes in its pixels; columns after the fourth are returned as they are.
        to_hw: height and width of the original image.
        ratio_pad: what the letterbox really did; None works it out, assuming a centred letterbox.
        padding: False for an image that was resized without a border.
        xywh: boxes are centre and size. Only the centre is shifted, and nothing is clipped.

    Returns:
        The same shape. Corners are clipped to the original image.
    """
    (gain_y, gain_x), (pad_x, pad_y) = ratio_pad or letterbox_ratio_pad(from_hw, to_hw)
    if not padding:
        pad_x = pad_y = 0.0
    far_x, far_y = (0.0, 0.0) if xywh else (pad_x, pad_y)
    a, b, c, d = _columns(boxes)
    scaled = _stack(boxes, (a - pad_x) / gain_x, (b - pad_y) / gain_y, (c - far_x) / gain_x, (d - far_y) / gain_y)
    if not xywh:
        scaled = clip_boxes(scaled, to_hw)
    return scaled if boxes.shape[-1] == 4 else _concatenate(scaled, boxes[..., 4:])


def letterbox_ratio_pad(from_hw: tuple[int, int], to_hw: tuple[int, int]) -> RatioPad:
    """What a centred letterbox must have done to an image of `to_hw` to make one of `from_hw`.

    Returns:
        ((gain y, gain x), (pad x, pad y)): output pixels per original pixel, and pixels added left and at the top.
        The gains differ slightly because each side was rounded to whole pixels.
    """
    gain = min(from_hw[0] / to_hw[0], from_hw[1] / to_hw[1])
    height, width = max(round(to_hw[0] * gain), 1), max(round(to_hw[1] * gain), 1)
    # 0.1 decides the halves: of an odd border, the smaller part lies left and at the top.
    pad = (round((from_hw[1] - width) / 2 - 0.1), round((from_hw[0] - height) / 2 - 0.1))
    return (height / to_hw[0], width / to_hw[1]), (float(pad[0]), float(pad[1]))


def _columns(boxes: Array) -> tuple[Array, Array, Array, Array]:
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def _stack(like: Array, *columns: Array) -> Array:
    if isinstance(like, Tensor):
        return torch.stack(columns, dim=-1)
    return np.stack(columns, axis=-1)


def _concatenate(first: Array, second: Array) -> Array:
    if isinstance(first, Tensor):
        return torch.cat([first, second], dim=-1)
    return np.concatenate([first, second], axis=-1)
