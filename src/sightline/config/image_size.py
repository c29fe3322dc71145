"""Input sizes that a network can take: multiples of its largest stride."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sightline.config.kinds import as_image_size
from sightline.config.settings import Settings
from sightline.log import LOGGER


def round_imgsz(imgsz: Any, stride: int = 32, *, min_dim: int = 1, max_dim: int = 2, floor: int = 0) -> int | list[int]:
    """Round up to a multiple of `stride`, and to at least `floor`.

    Args:
        imgsz: a side, or height and width, in pixels; text such as "[320, 640]" is read.
        stride: of the coarsest level, in pixels.
        min_dim: 2 makes one side into two equal ones.
        max_dim: 1 makes two sides into their larger one.
        floor: smallest side.
    """
    size = as_image_size(imgsz)
    sides = [max(math.ceil(side / stride) * stride, floor) for side in (size if isinstance(size, list) else [size])]
    if max_dim == 1:
        return max(sides)
    if len(sides) == 1:
        return sides * 2 if min_dim == 2 else sides[0]
    return sides


def fit_imgsz(settings: Settings, stride: int, *, max_dim: int = 2) -> int | list[int]:
    """Round `settings.imgsz` in place (its origin stays), and say so where that changed it.

    `max_dim` is 1 where only squares are possible (training, validation), 2 where height and width may differ.
    """
    before = settings.imgsz
    after = round_imgsz(before, stride, max_dim=max_dim)
    if after != before:
        reason = f"a multiple of the stride {stride}"
        if max_dim == 1 and isinstance(before, Sequence):
            reason += f"; {settings.mode} takes one side"
        LOGGER.warning(f"imgsz={before} becomes {after}: {reason}.")
        settings.assign("imgsz", after, origin=settings.origin("imgsz"))
    return after
