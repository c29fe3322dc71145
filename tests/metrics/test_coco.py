"""The COCO numbers are those of pycocotools, on real annotations with crowd regions."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from golden.golden import shared_data
from sightline.metrics.coco import COCO_NAMES, annotations_from_labels, evaluate_boxes


def noisy_detections(annotations: dict, seed: int) -> list[dict]:
    """Plausible detections: jittered, doubled, misclassified and invented boxes, also inside crowds; scores may tie."""
    rng = np.random.default_rng(seed)
    categories = [category["id"] for category in annotations["categories"]]
    rows = []
    for row in annotations["annotations"]:
        for _ in range(rng.integers(0, 4)):
            x, y, w, h = row["bbox"]
            dx, dy, dw, dh = rng.normal(0, 0.05, 4) * [w, h, w, h]
            category = row["category_id"] if rng.random() < 0.85 else int(rng.choice(categories))
            box = [x + dx, y + dy, max(w + dw, 1.0), max(h + dh, 1.0)]
            rows.append(
                {"image_id": row["image_id"], "category_id": category, "bbox": box, "score": rng.uniform(0.3, 1)}
            )
    for image in annotations["images"]:
        for _ in range(rng.integers(0, 130)):  # more than 100 in some images, so that the limit of detections acts
            size = rng.uniform(5, 150, 2)
            corner = rng.uniform(0, 1, 2) * [image["width"], image["height"]]
            rows.append(
                {
                    "image_id": image["id"],
                    "category_id": int(rng.choice(categories)),
                    "bbox": [*corner, *size],
                    "score": rng.uniform(0, 0.6),
                }
            )
    for row in rows:
        row["bbox"] = [round(float(value), 3) for value in row["bbox"]]
        row["score"] = round(float(row["score"]), 2)
    return rows


def pycocotools_numbers(annotations: dict, rows: list[dict], image_ids: list[int] | None = None) -> list[float]:
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = json.loads(json.dumps(annotations))
        truth.createIndex()
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(json.loads(json.dumps(rows))), "bbox")
        if image_ids is not None:
            evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "name", ["bccd/annotations/val.json", "coco-mini/annotations/val.json", "coco-mini/annotations/train.json"]
)
def test_equals_pycocotools(name: str, seed: int):
    annotations = json.loads((shared_data(Path(name).parts[0]) / Path(*Path(name).parts[1:])).read_text())
    rows = noisy_detections(annotations, seed)
    ours = evaluate_boxes(annotations, rows)
    theirs = pycocotools_numbers(annotations, rows)
    assert list(ours) == list(COCO_NAMES)
    assert list(ours.values()) == pytest.approx(theirs, abs=1e-6)
    assert 0.05 < ours["AP"] < 0.9  # the case is neither trivial nor hopeless


def test_crowds_matter_in_the_comparison():
    annotations = json.loads((shared_data("coco-mini") / "annotations/val.json").read_text())
    assert any(row["iscrowd"] for row in annotations["annotations"])
    rows = noisy_detections(annotations, 0)
    without = {**annotations, "annotations": [{**row, "iscrowd": 0} for row in annotations["annotations"]]}
    assert evaluate_boxes(without, rows) != evaluate_boxes(annotations, rows)


def test_a_part_of_the_images():
    annotations = json.loads((shared_data("bccd") / "annotations/val.json").read_text())
    rows = noisy_detections(annotations, 3)
    ids = [image["id"] for image in annotations["images"]][:20]
    ours = evaluate_boxes(annotations, rows, image_ids=ids)
    assert list(ours.values()) == pytest.approx(pycocotools_numbers(annotations, rows, ids), abs=1e-6)
    assert ours != evaluate_boxes(annotations, rows)


def _two_images() -> dict:
    boxes = np.array([[10.0, 10.0, 40.0, 40.0], [100.0, 80.0, 20.0, 30.0]])
    images = [(1, "a.jpg", (200, 200), np.array([0.0, 1.0]), boxes), (2, "b.jpg", (200, 200), np.zeros(0), boxes[:0])]
    return annotations_from_labels(images, {0: "cell", 1: "platelet"})


def test_perfect_detections_score_one():
    annotations = _two_images()
    rows = [{**row, "score": 0.9} for row in annotations["annotations"]]
    assert evaluate_boxes(annotations, rows)["AP"] == pytest.approx(1.0)


def test_no_detections_and_no_objects():
    annotations = _two_images()
    assert evaluate_boxes(annotations, [])["AP"] == 0.0
    assert evaluate_boxes({**annotations, "annotations": []}, [])["AP"] == -1.0


def test_nothing_given_is_changed():
    annotations = _two_images()
    rows = [{**row, "score": 0.9} for row in annotations["annotations"]]
    before = json.dumps([annotations, rows])
    evaluate_boxes(annotations, rows)
    assert json.dumps([annotations, rows]) == before
