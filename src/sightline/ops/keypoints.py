"""Keypoints: what the head said → the input image, and from there to the original one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sightline.ops.boxes import Array, RatioPad, letterbox_ratio_pad

# Keypoints of a person as COCO labels them: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
PEOPLE = (17, 3)
# How far apart two people place each of them, relative to the size of the person; https://cocodataset.org/#keypoints-eval
PEOPLE_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
    *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)


def keypoint_sigmas(kpt_shape: Sequence[int], given: Sequence[float] | None = None) -> list[float]:
    """(K,) how far a keypoint may be off, relative to the size of the object.

    Args:
        kpt_shape: (K, 2 or 3).
        given: what the data set says; None for those of COCO where it has people of 17 keypoints, else 1/K for all.
    """
    if given is not None:
        return [float(value) for value in given]
    return list(PEOPLE_SIGMAS) if tuple(kpt_shape) == PEOPLE else [1 / kpt_shape[0]] * int(kpt_shape[0])


def decode_keypoints(raw: Tensor, points: Tensor, *, factor: float = 1.0, offset: float = 0.0) -> Tensor:
    """Offsets from an anchor point → positions.

    Args:
        raw: (..., A, K, 2) what the head said.
        points: (A, 2) anchor points, grid units.
        factor: what the raw value is multiplied by: 2 for YOLOv8 and YOLO11.
        offset: from the anchor point to where counting begins: −0.5 for those, the corner of the cell.

    Returns:
        (..., A, K, 2) x, y in grid units.
    """
    return raw * factor + (points[:, None] + offset)


def scale_keypoints(
    from_hw: tuple[int, int],
    keypoints: Array,
    to_hw: tuple[int, int],
    ratio_pad: RatioPad | None = None,
    *,
    padding: bool = True,
    normalize: bool = False,
) -> Array:
    """Keypoints of a letterboxed image, in the pixels of the original one.

    Args:
        from_hw: height and width of the letterboxed image.
        keypoints: (..., 2 or more) x, y in its pixels; further columns (visibility) are returned as they are.
        to_hw: height and width of the original image.
        ratio_pad: what the letterbox really did; None works it out, assuming a centred letterbox.
        padding: False for an image that was resized without a border.
        normalize: divide by the width and height of the original image.

    Returns:
        The same shape, x and y clipped to the original image.
    """
    (gain_y, gain_x), (pad_x, pad_y) = ratio_pad or letterbox_ratio_pad(from_hw, to_hw)
    if not padding:
        pad_x = pad_y = 0.0
    height, width = to_hw
    x = ((keypoints[..., :1] - pad_x) / gain_x).clip(0, width)
    y = ((keypoints[..., 1:2] - pad_y) / gain_y).clip(0, height)
    if normalize:
        x, y = x / width, y / height
    if isinstance(keypoints, Tensor):
        return torch.cat([x, y, keypoints[..., 2:]], dim=-1)
    return np.concatenate([x, y, keypoints[..., 2:]], axis=-1)
