"""Outlines of objects: their boxes inside a frame, as many vertices as wanted, filled masks.

Lists of polygons are worked on as one flat array of edges, because a sample may hold hundreds of small ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from sightline.structures.sample import Array, Labels


def polygon_boxes(polygons: Sequence[Array]) -> Array:
    """N outlines of (P, 2) → (N, 4) float32 xyxy, the smallest boxes around them."""
    if not polygons:
        return np.zeros((0, 4), np.float32)
    points, starts = _flatten(polygons)
    return np.concatenate([np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)], axis=1)


def polygon_boxes_in_frame(polygons: Sequence[Array], width: float, height: float) -> Array:
    """N outlines of (P, 2) → (N, 4) float32 xyxy, the smallest boxes around the part that lies in the frame.

    The frame is [0, width] × [0, height]. A polygon without any part in it gives zeros. Exact also for outlines that
    are not convex: the part's extremes are corners of the outline, points where it crosses the border, or frame
    corners that it encloses.
    """
    boxes = polygon_boxes(polygons)
    frame = np.array([width, height], np.float32)
    outside = (boxes[:, 2:] < 0).any(axis=1) | (boxes[:, :2] > frame).any(axis=1)
    cut = (boxes[:, :2] < 0).any(axis=1) | (boxes[:, 2:] > frame).any(axis=1)
    boxes[outside] = 0
    for i in np.flatnonzero(cut & ~outside):
        extremes = _extremes_in_frame(polygons[i].astype(np.float64), frame.astype(np.float64))
        boxes[i] = 0 if not len(extremes) else np.concatenate([extremes.min(axis=0), extremes.max(axis=0)])
    return boxes


def _extremes_in_frame(polygon: Array, frame: Array) -> Array:
    """(P, 2) outline → (M, 2) points that span its part in the frame; M is 0 if there is none."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    step = end - start  # (P, 2)
    # Liang and Barsky: the stretch [enter, leave] of each edge, in shares of its length, that is inside.
    with np.errstate(divide="ignore", invalid="ignore"):
        at_low, at_high = -start / step, (frame - start) / step  # (P, 2)
    inside = (start >= 0) & (start <= frame)
    still = step == 0  # along an axis without movement, the edge is inside all the way or nowhere
    low = np.where(still, np.where(inside, 0.0, np.inf), np.minimum(at_low, at_high))
    high = np.where(still, np.where(inside, 1.0, -np.inf), np.maximum(at_low, at_high))
    enter, leave = np.maximum(low.max(axis=1), 0.0), np.minimum(high.min(axis=1), 1.0)
    seen = enter <= leave
    entries = start[seen] + enter[seen, None] * step[seen]
    exits = start[seen] + leave[seen, None] * step[seen]
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]) * frame
    enclosed = corners[_inside(corners, start, end)]
    return np.concatenate([entries, exits, enclosed]).clip(0, frame)


def _inside(points: Array, start: Array, end: Array) -> Array:
    """(M, 2) points and the (P, 2) ends of an outline's edges → (M,) bool, by counting crossings to the right."""
    x, y = points[:, 0, None], points[:, 1, None]
    above = (start[:, 1] > y) != (end[:, 1] > y)  # (M, P)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = start[:, 0] + (y - start[:, 1]) / (end[:, 1] - start[:, 1]) * (end[:, 0] - start[:, 0])
    inside: Array = (above & (x < crossing)).sum(axis=1) % 2 == 1
    return inside


def clamp_to_boxes(polygons: Sequence[Array], boxes: Array) -> list[Array]:
    """Every point of each outline moved into its box, (N, 4) xyxy."""
    return [polygon.clip(box[:2], box[2:]) for polygon, box in zip(polygons, boxes, strict=True)]


def resample_polygon(polygon: Array, count: int) -> Array:
    """(P, 2) outline → (count, 2), evenly spaced in vertex number; fewer than `count` all stay."""
    if len(polygon) == count:
        return polygon
    closed = np.concatenate([polygon, polygon[:1]])  # (L, 2)
    vertices = np.arange(len(closed))
    if len(closed) < count:
        between = np.linspace(0, len(closed) - 1, count - len(closed))
        places = np.sort(np.concatenate([vertices, between]))
    else:
        places = np.linspace(0, len(closed) - 1, count)
    return np.stack([np.interp(places, vertices, closed[:, axis]) for axis in (0, 1)], axis=1).astype(np.float32)


def box_polygons(boxes: Array) -> list[Array]:
    """(N, 4) xyxy → N outlines of their four corners, for objects without a drawn one."""
    return list(boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))


def outlines(labels: Labels) -> list[Array]:
    """Of each object: as drawn, else the corners of its box."""
    return labels.polygons if labels.polygons is not None else box_polygons(labels.boxes)


def least_visible(labels: Labels) -> Array:
    """(N,) share of each object's area that must remain visible for it to be worth learning.

    A drawn outline follows what is left of an object more closely than a box, so less of it may be left. An outline of
    just the corners of its box says no more than the box.
    """
    shares = np.full(len(labels), 0.1)
    if labels.polygons:
        four = np.array([len(polygon) == 4 for polygon in labels.polygons])
        shares[~four] = 0.01
        if four.any():
            corners = np.sort([polygon for polygon in labels.polygons if len(polygon) == 4], axis=1)  # (M, 4, 2)
            sides = labels.boxes[four].reshape(-1, 2, 2).repeat(2, axis=1)  # x1 y1, x1 y1, x2 y2, x2 y2
            drawn = (np.abs(corners - sides) > 0.01).any(axis=(1, 2))  # pixels
            shares[four] = np.where(drawn, 0.01, 0.1)
    return shares


def fill_polygons(polygons: Sequence[Array], height: int, width: int) -> Array:
    """(height, width) uint8, 255 inside any of the outlines, their border included."""
    mask = np.zeros((height, width), np.uint8)
    for polygon in polygons:  # one by one: together, OpenCV leaves out where they overlap
        cv2.fillPoly(mask, [np.rint(polygon).astype(np.int32)], 255)
    return mask


def _flatten(polygons: Sequence[Array]) -> tuple[Array, Array]:
    """(M, 2) all points, and (N,) where each outline starts."""
    lengths = np.array([len(polygon) for polygon in polygons])
    return np.concatenate(polygons).astype(np.float32), np.cumsum(lengths) - lengths
