"""Keypoints on pictures: a dot for each, and the limbs of people. Pictures are (H, W, 3) uint8 BGR."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from sightline.ops.keypoints import PEOPLE
from sightline.structures.draw import class_colour
from sightline.structures.pictures import Picture

_RIM = (255, 255, 255)
SURE = 0.25  # points that are less likely to be there are not drawn

# Pairs of the 17 COCO keypoints that a limb joins; the 19 of the COCO keypoint annotations.
PEOPLE_LIMBS = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8)),
    *((7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)


def limbs_of(count: int) -> tuple[tuple[int, int], ...]:
    """Pairs of keypoints that a line joins. Only those of people are known."""
    return PEOPLE_LIMBS if count == PEOPLE[0] else ()


def draw_keypoints(picture: Picture, keypoints: npt.ArrayLike, *, radius: int, line_width: int, limbs: bool) -> None:
    """Draw the points of every object, the same point in the same colour everywhere.

    Args:
        picture: changed in place.
        keypoints: (N, K, 2 or 3) x, y in pixels, how likely the point is there. Those outside the picture, or at (0, 0)
            where labels put what is not there, are not drawn.
        radius: of a dot, pixels.
        line_width: of a limb, pixels.
        limbs: draw the limbs of people.
    """
    points = np.asarray(keypoints, dtype=np.float64)
    if not points.size:
        return
    height, width = picture.shape[:2]
    xy = points[..., :2]
    seen = np.isfinite(xy).all(-1) & (xy >= 0).all(-1) & (xy < [width, height]).all(-1) & (xy != 0).any(-1)
    if points.shape[-1] == 3:
        seen &= points[..., 2] >= SURE
    at = np.nan_to_num(xy).clip(-1, max(height, width)).round().astype(int)
    for one, there in zip(at.tolist(), seen.tolist(), strict=True):
        for first, second in limbs_of(len(one)) if limbs else ():
            if there[first] and there[second]:
                cv2.line(picture, one[first], one[second], class_colour(first), line_width, cv2.LINE_AA)
        for number, (place, visible) in enumerate(zip(one, there, strict=True)):
            if visible:
                # A light rim: the colour of a point may be that of its box, or of what it lies on.
                cv2.circle(picture, place, radius + 1, _RIM, -1, cv2.LINE_AA)
                cv2.circle(picture, place, radius, class_colour(number), -1, cv2.LINE_AA)
