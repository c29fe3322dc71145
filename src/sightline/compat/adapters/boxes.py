"""Box formats, scaling and suppression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from sightline.ops import boxes as formats
from sightline.ops import keypoints, nms
from sightline.ops.boxes import Array, RatioPad


def xywhn2xyxy(x: Array, w: float = 640, h: float = 640, padw: float = 0, padh: float = 0) -> Array:
    """(..., 4) centre and size, divided by the image size → corners in pixels."""
    return formats.xywhn_to_xyxy(x, (h, w), pad_xy=(padw, padh))


def xyxy2xywhn(x: Array, w: float = 640, h: float = 640, clip: bool = False, eps: float = 0.0) -> Array:
    """(..., 4) corners in pixels → centre and size, divided by the image size."""
    return formats.xyxy_to_xywhn(x, (h, w), clip=clip, margin=eps)


def clip_boxes(boxes: Array, shape: Sequence[int]) -> Array:
    """Move corners into an image of (height, width, …), in place, as scripts rely on; returns the same array."""
    boxes[..., :4] = formats.clip_boxes(boxes[..., :4], (shape[0], shape[1]))
    return boxes


def scale_boxes(
    img1_shape: Sequence[int],
    boxes: Array,
    img0_shape: Sequence[int],
    ratio_pad: RatioPad | None = None,
    padding: bool = True,
    xywh: bool = False,
) -> Array:
    """Boxes of a letterboxed image → pixels of the original one, in place, as scripts rely on; returns the same array.

    Args:
        img1_shape: height and width of the letterboxed image; more numbers are passed over, as in `img0_shape`.
        boxes: (..., 4 or more).
        img0_shape: height and width of the original one.
        ratio_pad, padding, xywh: as `sightline.ops.boxes.scale_boxes`.
    """
    boxes[...] = formats.scale_boxes(
        (img1_shape[0], img1_shape[1]),
        boxes,
        (img0_shape[0], img0_shape[1]),
        ratio_pad,
        padding=padding,
        xywh=xywh,
    )
    return boxes


def scale_coords(
    img1_shape: Sequence[int],
    coords: Array,
    img0_shape: Sequence[int],
    ratio_pad: RatioPad | None = None,
    normalize: bool = False,
    padding: bool = True,
) -> Array:
    """Keypoints (..., 2 or more) of a letterboxed image → the original one."""
    return keypoints.scale_keypoints(
        (img1_shape[0], img1_shape[1]),
        coords,
        (img0_shape[0], img0_shape[1]),
        ratio_pad,
        padding=padding,
        normalize=normalize,
    )


def non_max_suppression(
    prediction: Any,
    conf_thres: float = 0.25,
    iou_thres: float = 0.45,
    classes: Sequence[int] | None = None,
    agnostic: bool = False,
    multi_label: bool = False,
    labels: Sequence[Any] = (),
    max_det: int = 300,
    nc: int = 0,
    max_time_img: float = 0.05,
    max_nms: int = 30_000,
    max_wh: int = 7680,
    rotated: bool = False,
    end2end: bool = False,
) -> list[Tensor]:
    """Rows (x1, y1, x2, y2, score, class, extra…) of every image, best first.

    Args:
        prediction: (B, 4 + nc + extra, A), or (B, K, 6 + extra) of an NMS-free head; of a tuple, its first part.
        nc: number of classes; 0 takes everything behind the boxes for classes.
        labels, rotated: not here: refused.
        max_time_img, max_wh: without effect: there is no time limit, and no shift by classes that could be too small.
        The others as `sightline.ops.nms.non_max_suppression`.

    Raises:
        ValueError: labels or rotated boxes are given.
    """
    if len(labels) or rotated:
        raise ValueError("non_max_suppression: labels= and rotated=True are not in sightline. Leave them out.")
    decoded: Tensor = prediction[0] if isinstance(prediction, (tuple, list)) else prediction
    if end2end or decoded.shape[-1] == 6:
        return nms.select_end_to_end(decoded, conf=conf_thres, classes=classes, max_det=max_det)
    return nms.non_max_suppression(
        decoded,
        nc=nc or decoded.shape[1] - 4,
        conf=conf_thres,
        iou=iou_thres,
        classes=classes,
        agnostic=agnostic,
        multi_label=multi_label,
        max_det=max_det,
        max_nms=max_nms,
    )
