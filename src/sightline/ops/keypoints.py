"""Keypoints: the way back from a letterboxed image to the original one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sightline.ops.boxes import Array, RatioPad, letterbox_ratio_pad


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
