"""predictions.json, and the annotations that the COCO evaluation compares it with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sightline.errors import DataError
from sightline.metrics.coco import annotations_from_labels, evaluate_boxes, evaluate_keypoints

# COCO numbers its 80 classes up to 90; these numbers were never used.
_UNUSED_COCO_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_CATEGORY_IDS = [number for number in range(1, 91) if number not in _UNUSED_COCO_IDS]


class CocoRecord:
    """Collects what was predicted and labelled, image by image, in pixels of the original images.

    Args:
        names: class index → name.
        category_ids: the number of each class in predictions.json; None counts from 1.
        sigmas: (K,) of the keypoints; None for boxes without.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        category_ids: Sequence[int] | None = None,
        *,
        sigmas: Sequence[float] | None = None,
    ) -> None:
        self.sigmas = sigmas
        self._true_keypoints: list[np.ndarray] = []  # (N, K, 3) of each image
        self.names = dict(names)
        self.category_ids = list(category_ids or range(1, len(self.names) + 1))
        self.rows: list[dict[str, Any]] = []  # of predictions.json
        self._row_images: list[int] = []  # position in `_images` of each row
        self._row_classes: list[int] = []
        self._images: list[tuple[int, str, tuple[int, int], np.ndarray, np.ndarray]] = []
        self._paths: list[str] = []

    def add(
        self,
        path: str,
        shape_hw: tuple[int, int],
        *,
        boxes: np.ndarray,
        scores: np.ndarray,
        classes: np.ndarray,
        true_boxes: np.ndarray,
        true_classes: np.ndarray,
        keypoints: np.ndarray | None = None,
        true_keypoints: np.ndarray | None = None,
    ) -> None:
        """Add one image; boxes are (N, 4) left, top, width, height, keypoints (N, K, 2 or 3)."""
        file = Path(path)
        image_id = int(file.stem) if file.stem.isdecimal() else file.stem
        first = len(self.rows)
        for box, score, class_ in zip(boxes.tolist(), scores.tolist(), classes.astype(int).tolist(), strict=True):
            self.rows.append(
                {
                    "image_id": image_id,
                    "file_name": file.name,
                    "category_id": self.category_ids[class_],
                    "bbox": [round(value, 3) for value in box],
                    "score": round(score, 5),
                }
            )
            self._row_images.append(len(self._images))
            self._row_classes.append(class_)
        if keypoints is not None and true_keypoints is not None:
            for row, points in zip(self.rows[first:], keypoints, strict=True):
                row["keypoints"] = _flat(points)
            self._true_keypoints.append(true_keypoints)
        self._images.append((len(self._images) + 1, file.name, shape_hw, true_classes, true_boxes))
        self._paths.append(str(path))

    def reset(self) -> None:
        """Forget all images."""
        lists: tuple[list[Any], ...] = (self.rows, self._row_images, self._row_classes, self._images, self._paths)
        for collected in (*lists, self._true_keypoints):
            collected.clear()

    def state_dict(self) -> dict[str, Any]:
        """What was collected, for another process: see `merge`."""
        return {
            "rows": list(self.rows),
            "row_images": list(self._row_images),
            "row_classes": list(self._row_classes),
            "images": list(self._images),
            "paths": list(self._paths),
            "true_keypoints": list(self._true_keypoints),
        }

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add the images of another process (its `state_dict`) behind those collected here."""
        before = len(self._images)
        self.rows += state["rows"]
        self._row_images += [before + image for image in state["row_images"]]
        self._row_classes += state["row_classes"]
        self._images += [(before + number, *rest) for number, *rest in state["images"]]
        self._paths += state["paths"]
        self._true_keypoints += state["true_keypoints"]

    def evaluate(self, annotations: CocoAnnotations | None) -> dict[str, float]:
        """The COCO numbers of the rows, against an annotation file or, with None, against the labels.

        Those of keypoints are called pose_AP and so on.
        """
        if annotations is None:
            keypoints = None if self.sigmas is None else self._true_keypoints
            truth = annotations_from_labels(self._images, self.names, keypoints)
            image_ids: list[Any] = [image[0] for image in self._images]
            category_ids: list[Any] = [number + 1 for number in self.names]
        else:
            truth = annotations.content
            image_ids = annotations.image_ids(self._paths)
            category_ids = annotations.category_ids(self.names)
        rows = [
            {**row, "image_id": image_ids[image], "category_id": category_ids[class_]}
            for row, image, class_ in zip(self.rows, self._row_images, self._row_classes, strict=True)
        ]
        found = evaluate_boxes(truth, rows, image_ids=image_ids)
        if self.sigmas is not None:
            points = evaluate_keypoints(truth, rows, sigmas=self.sigmas, image_ids=image_ids)
            found |= {f"pose_{name}": value for name, value in points.items()}
        return found


def _flat(points: np.ndarray) -> list[float]:
    """(K, 2 or 3) → x, y, score of each point in a row; the score is 1 where the model does not say."""
    if points.shape[1] == 2:
        points = np.concatenate([points, np.ones_like(points[:, :1])], axis=1)
    return [round(value, 3) for value in points.reshape(-1).tolist()]


class CocoAnnotations:
    """A COCO annotation file, whose images are found by file name and whose categories by name.

    Raises:
        DataError: it cannot be read, or it is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lists = ("images", "annotations", "categories")
        try:
            self.content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            missing = [name for name in lists if not isinstance(self.content.get(name), list)]
        except (OSError, ValueError, AttributeError) as error:
            raise DataError(f"coco_eval: {path} is no COCO annotation file ({error}). Mend or remove it.") from error
        if missing:
            raise DataError(f"coco_eval: {path} has no list of {', '.join(missing)}. Mend it, or remove it.")

    def image_ids(self, paths: Sequence[str]) -> list[Any]:
        """The id of each image.

        Raises:
            DataError: images are missing, so the numbers would not be those of these images.
        """
        ids = {Path(str(image["file_name"])).name: image["id"] for image in self.content["images"]}
        return self._look_up([Path(path).name for path in paths], ids, "images")

    def category_ids(self, names: Mapping[int, str]) -> list[Any]:
        """The id of each class.

        Raises:
            DataError: classes are missing.
        """
        ids = {str(category["name"]): category["id"] for category in self.content["categories"]}
        return self._look_up([str(name) for name in names.values()], ids, "classes")

    def _look_up(self, wanted: list[str], ids: dict[str, Any], what: str) -> list[Any]:
        missing = [name for name in wanted if name not in ids]
        if missing:
            shown = ", ".join(map(repr, missing[:3])) + (", …" if len(missing) > 3 else "")
            raise DataError(
                f"coco_eval: {self.path} lacks {len(missing)} of {len(wanted)} {what} of the data set ({shown}). "
                "Correct it, or remove it: without it the labels are compared."
            )
        return [ids[name] for name in wanted]


def find_annotations(
    root: Path | None, split: str, image_folder: str | None = None, *, kind: str = "instances"
) -> Path | None:
    """The annotation file of a split below the root of a data set, if there is one.

    Looks for `annotations/<split>.json`, then `annotations/<kind>_<image folder>.json` (the names of COCO).
    """
    if root is None:
        return None
    names = [f"{split}.json"] + ([f"{kind}_{image_folder}.json"] if image_folder else [])
    return next((path for name in names if (path := Path(root) / "annotations" / name).is_file()), None)
