"""The numbers of the COCO evaluation, equal to pycocotools: crowd regions, area ranges, at most 100 detections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

# The order of pycocotools' `stats`. s, m, l: objects below 32², up to 96², above 96² square pixels.
COCO_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
# Of keypoints there is no range for small objects, and an object may be found by 20 detections at most.
KEYPOINT_NAMES = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
AREA_SHARE = 0.53  # of its box that an object with keypoints covers, about, where the annotations do not say


def evaluate_boxes(
    annotations: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], *, image_ids: Iterable[int] | None = None
) -> dict[str, float]:
    """Average precision and recall as the COCO challenge defines them.

    Args:
        annotations: the content of a COCO annotation file: images, annotations (bbox is left, top, width, height in
            pixels; `area` and `iscrowd` may be missing) and categories.
        detections: rows of image_id, category_id, bbox (left, top, width, height) and score.
        image_ids: only these images; None for all that `annotations` lists.

    Returns:
        The twelve numbers of `COCO_NAMES` in [0, 1]; -1.0 where no object falls into the range, like pycocotools.

    Source: Lin et al., Microsoft COCO, arXiv:1405.0312, and https://cocodataset.org/#detection-eval; computed by
    faster-coco-eval.
    """
    return _evaluate(annotations, detections, image_ids, "bbox", COCO_NAMES)


def evaluate_keypoints(
    annotations: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    *,
    sigmas: Sequence[float],
    image_ids: Iterable[int] | None = None,
) -> dict[str, float]:
    """The same for keypoints, by their similarity.

    Args:
        annotations: as for `evaluate_boxes`, with keypoints, a flat list of x, y, visibility. Where `area` is missing
            it is a share of the box.
        detections: as there, with keypoints, a flat list of x, y, anything.
        sigmas: (K,) see `keypoint_similarity`.
        image_ids: as there.

    Returns:
        The ten numbers of `KEYPOINT_NAMES`.
    """
    return _evaluate(annotations, detections, image_ids, "keypoints", KEYPOINT_NAMES, sigmas)


def _evaluate(
    annotations: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    image_ids: Iterable[int] | None,
    what: str,
    names: Sequence[str],
    sigmas: Sequence[float] | None = None,
) -> dict[str, float]:
    from faster_coco_eval import COCO, COCOeval_faster

    share = 1.0 if sigmas is None else AREA_SHARE
    listed = annotations["annotations"]
    truth = {
        "images": [dict(image) for image in annotations["images"]],
        "categories": [dict(category) for category in annotations["categories"]],
        "annotations": [_complete(row, number, share) for number, row in enumerate(listed, start=1)],
    }
    wanted = {image["id"] for image in truth["images"]}
    if image_ids is not None:
        wanted &= set(image_ids)
    rows = [dict(row) for row in detections if row["image_id"] in wanted]
    ground_truth = COCO(truth)
    if not wanted or not truth["annotations"]:
        return dict.fromkeys(names, -1.0)
    # An evaluator without a single detection refuses to load; a box without extent matches nothing.
    nothing = {"image_id": 0, "category_id": truth["categories"][0]["id"], "bbox": [0, 0, 0, 0], "score": 0.0}
    if sigmas is not None:
        nothing["keypoints"] = [1e9, 1e9, 0.0] * len(sigmas)  # as far away from any object as can be
    found = ground_truth.loadRes(rows or [nothing | {"image_id": min(wanted)}])
    extra = {} if sigmas is None else {"kpt_oks_sigmas": list(sigmas)}
    evaluation = COCOeval_faster(ground_truth, found, what, print_function=_silent, **extra)
    evaluation.params.imgIds = sorted(wanted)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return dict(zip(names, map(float, evaluation.stats[: len(names)]), strict=True))


def annotations_from_labels(
    images: Iterable[tuple[int, str, tuple[int, int], np.ndarray, np.ndarray]],
    names: Mapping[int, str],
    keypoints: Iterable[np.ndarray] | None = None,
) -> dict[str, Any]:
    """A COCO annotation file's content, made from labels.

    Args:
        images: (id, file name, (height, width), classes (N,), boxes (N, 4) left, top, width, height in pixels) each.
        names: class index → name. Category ids are the class index + 1.
        keypoints: (N, K, 3) x, y, visibility of each image's objects; None for data without.
    """
    listed: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for image_id, file_name, (height, width), classes, boxes in images:
        listed.append({"id": image_id, "file_name": file_name, "height": int(height), "width": int(width)})
        for category, box in zip(classes.tolist(), boxes.tolist(), strict=True):
            rows.append({"id": len(rows) + 1, "image_id": image_id, "category_id": int(category) + 1, "bbox": box})
    if keypoints is not None:
        points = [one for image in keypoints for one in image]
        for row, one in zip(rows, points, strict=True):
            row["keypoints"] = one.reshape(-1).tolist()
    categories = [{"id": number + 1, "name": str(name)} for number, name in names.items()]
    return {"images": listed, "annotations": rows, "categories": categories}


def _complete(row: Mapping[str, Any], number: int, area_share: float) -> dict[str, Any]:
    """An annotation with everything the evaluation reads. Ids are renumbered: 0 would mean "no match" there."""
    width, height = row["bbox"][2:4]
    complete = {
        "image_id": row["image_id"],
        "category_id": row["category_id"],
        "bbox": list(row["bbox"]),
        "area": row.get("area", width * height * area_share),
        "iscrowd": int(row.get("iscrowd", 0)),
        "id": number,
    }
    if "keypoints" in row:
        visible = sum(value > 0 for value in row["keypoints"][2::3])
        complete |= {"keypoints": list(row["keypoints"]), "num_keypoints": row.get("num_keypoints", visible)}
    return complete


def _silent(*_: Any) -> None:
    """The evaluator's own table is not printed: the numbers go into ours."""
