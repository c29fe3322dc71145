"""One picture for each image that shows what went right and wrong (`visualize=True`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sightline.metrics.matching import match_any_class
from sightline.structures.draw import class_colour, default_line_width, default_text_size, draw_boxes, draw_text
from sightline.structures.pictures import write_picture
from sightline.structures.skeleton import draw_keypoints

PANELS = ("labels", "wrong", "right", "missed")
GAP = 4  # pixels between panels


def sort_out(
    overlap: np.ndarray, scores: np.ndarray, predicted: np.ndarray, true: np.ndarray, *, conf: float, iou: float = 0.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which predictions above `conf` are right, which are wrong, and which objects were missed.

    Args:
        overlap: (T, P) IoU.
        scores: (P,).
        predicted: (P,) classes.
        true: (T,) classes.
        conf: predictions below are not looked at.
        iou: a right prediction overlaps its object by more.

    Returns:
        Three index arrays: right and wrong predictions, missed objects.
    """
    sure = np.flatnonzero(scores > conf)
    same_class = true[:, None] == predicted[None, sure]
    pairs, found = match_any_class(np.where(same_class, overlap[:, sure], 0.0), scores[sure], threshold=iou)
    right = sure[pairs]
    return right, np.setdiff1d(sure, right), np.setdiff1d(np.arange(len(true)), found)


def write_error_picture(
    file: Path,
    image: np.ndarray,
    names: dict[int, str],
    *,
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    true_boxes: np.ndarray,
    true_classes: np.ndarray,
    overlap: np.ndarray,
    conf: float,
    keypoints: np.ndarray | None = None,
    true_keypoints: np.ndarray | None = None,
) -> None:
    """Write four panels: the labels, wrong predictions, right predictions, missed objects.

    Args:
        file: where to.
        image: (H, W, 3) uint8 BGR, the network input.
        names: class index → name.
        boxes: (P, 4) xyxy in pixels of `image`; `scores` and `classes` (P,).
        true_boxes: (T, 4); `true_classes` (T,).
        overlap: (T, P) IoU.
        conf: predictions below are left out.
        keypoints: (P, K, 2 or 3) in pixels of `image`, drawn where there are any; `true_keypoints` (T, K, 3).
    """
    right, wrong, missed = sort_out(overlap, scores, classes, true_classes, conf=conf)
    everything = np.arange(len(true_boxes))
    panels = []
    for title, chosen, predicted in zip(PANELS, (everything, wrong, right, missed), (0, 1, 1, 0), strict=True):
        source, numbers = (boxes, classes) if predicted else (true_boxes, true_classes)
        points = keypoints if predicted else true_keypoints
        labels = [names.get(int(numbers[i]), "?") + (f" {scores[i]:.2f}" if predicted else "") for i in chosen]
        of_chosen = None if points is None else points[chosen]
        panels.append(_panel(image, title, source[chosen], labels, numbers[chosen], of_chosen))
    rows = [np.concatenate([panels[i], _gap(panels[i]), panels[i + 1]], axis=1) for i in (0, 2)]
    write_picture(file, np.concatenate([rows[0], _gap(rows[0], axis=0), rows[1]]))


def _gap(beside: np.ndarray, axis: int = 1) -> np.ndarray:
    shape = (beside.shape[0], GAP, 3) if axis == 1 else (GAP, beside.shape[1], 3)
    return np.full(shape, 255, dtype=np.uint8)


def _panel(
    image: np.ndarray,
    title: str,
    boxes: np.ndarray,
    labels: list[str],
    classes: np.ndarray,
    keypoints: np.ndarray | None,
) -> np.ndarray:
    picture = image.copy()
    width = default_line_width(picture.shape)
    size = default_text_size(picture.shape, width)
    draw_boxes(picture, boxes, labels, [class_colour(int(c)) for c in classes], line_width=width, text_size=size)
    if keypoints is not None:
        draw_keypoints(picture, keypoints, radius=width + 1, line_width=width, limbs=True)
    strip = np.full((size + 8, picture.shape[1], 3), 60, dtype=np.uint8)
    draw_text(strip, f"{title}: {len(boxes)}", (2, 1), text_size=size, background=(60, 60, 60))
    return np.concatenate([strip, picture])
