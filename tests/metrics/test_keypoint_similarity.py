"""Similarity of keypoints, and the COCO numbers made of it, are those of pycocotools to 1e-6."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import numpy as np
import pytest

from golden.golden import shared_data
from sightline.metrics.coco import KEYPOINT_NAMES, annotations_from_labels, evaluate_keypoints
from sightline.metrics.keypoint_similarity import keypoint_similarity
from sightline.ops.keypoints import PEOPLE_SIGMAS

TUBE_SIGMAS = (0.5, 0.3)


def noisy_keypoints(annotations: dict, seed: int) -> list[dict]:
    """Some objects found well, some badly, some twice, some not; and invented ones."""
    rng, rows = np.random.default_rng(seed), []
    count = len(annotations["annotations"][0]["keypoints"]) // 3
    for row in annotations["annotations"]:
        box, points = np.array(row["bbox"], float), np.array(row["keypoints"], float).reshape(-1, 3)
        for _ in range(rng.integers(0, 3)):
            moved = points.copy()
            # Points without a label lie at (0, 0); what a model says of them must not matter.
            moved[points[:, 2] == 0, :2] = rng.uniform(0, 500, ((points[:, 2] == 0).sum(), 2))
            moved[:, :2] += rng.normal(0, rng.choice([0.005, 0.03, 0.1]), (count, 2)) * box[2:]
            rows.append((row["image_id"], row["category_id"], box, moved, rng.uniform(0.2, 1)))
    for image in annotations["images"]:
        for _ in range(rng.integers(0, 25)):  # more than 20 in some images, so that the limit acts
            points = rng.uniform(0, 1, (count, 3)) * [image["width"], image["height"], 1]
            box = np.array([*points[:, :2].min(0), *np.ptp(points[:, :2], axis=0)])
            category = int(rng.choice([each["id"] for each in annotations["categories"]]))
            rows.append((image["id"], category, box, points, rng.uniform(0, 0.7)))
    return [
        {
            "image_id": image,
            "category_id": category,
            "bbox": box.round(3).tolist(),
            "keypoints": points.round(3).reshape(-1).tolist(),
            "score": round(float(score), 2),
        }
        for image, category, box, points, score in rows
    ]


def pycocotools_evaluation(annotations: dict, rows: list[dict], sigmas: Any) -> Any:
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = json.loads(json.dumps(annotations))
        truth.createIndex()
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(json.loads(json.dumps(rows))), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize(("name", "sigmas"), [("coco-mini-pose", PEOPLE_SIGMAS), ("glue-tubes-pose", TUBE_SIGMAS)])
def test_numbers_of_real_annotations(name: str, sigmas: tuple[float, ...]):
    annotations = json.loads((shared_data(name) / "annotations" / "val.json").read_text())
    rows = noisy_keypoints(annotations, seed=0)
    found = evaluate_keypoints(annotations, rows, sigmas=sigmas)
    expected = pycocotools_evaluation(annotations, rows, sigmas).stats
    assert list(found) == list(KEYPOINT_NAMES)
    np.testing.assert_allclose(list(found.values()), expected, atol=1e-6, rtol=0)
    assert 0.05 < found["AP"] < 0.95


@pytest.mark.parametrize(("name", "sigmas"), [("coco-mini-pose", PEOPLE_SIGMAS), ("glue-tubes-pose", TUBE_SIGMAS)])
def test_similarities_of_real_annotations(name: str, sigmas: tuple[float, ...]):
    annotations = json.loads((shared_data(name) / "annotations" / "val.json").read_text())
    rows = noisy_keypoints(annotations, seed=1)
    evaluation = pycocotools_evaluation(annotations, rows, sigmas)
    compared = 0
    for (image, category), table in evaluation.ious.items():
        truth = [each for each in evaluation.cocoGt.imgToAnns[image] if each["category_id"] == category]
        if not len(table):
            continue
        found = [each for each in evaluation.cocoDt.imgToAnns[image] if each["category_id"] == category]
        found = sorted(found, key=lambda each: -each["score"])[: evaluation.params.maxDets[-1]]
        own = keypoint_similarity(
            np.array([each["keypoints"] for each in truth], float).reshape(len(truth), -1, 3),
            np.array([each["keypoints"] for each in found], float).reshape(len(found), -1, 3),
            np.array([each["area"] for each in truth], float),
            np.array(sigmas),
        ).T
        labelled = [each["num_keypoints"] > 0 for each in truth]  # for others pycocotools looks at the box
        np.testing.assert_allclose(own[:, labelled], np.array(table)[:, labelled], atol=1e-6, rtol=0)
        compared += own[:, labelled].size
    assert compared > 100


def test_labels_without_an_area_are_measured_by_their_box():
    points = np.array([[[10.0, 10, 2], [30, 10, 2]]])
    labels = [(1, "a.jpg", (100, 100), np.zeros(1), np.array([[5.0, 5, 40, 20]]))]
    annotations = annotations_from_labels(labels, {0: "thing"}, [points])
    row = {"image_id": 1, "category_id": 1, "bbox": [5, 5, 40, 20], "score": 0.9}
    off = points.copy()
    off[0, 0, 0] += 20  # of two points one is exact, the other is off by 20 pixels
    similarity = (1 + np.exp(-400 / ((2 * 0.5) ** 2 * 0.53 * 800 * 2))) / 2
    found = evaluate_keypoints(annotations, [{**row, "keypoints": off.reshape(-1).tolist()}], sigmas=(0.5, 0.5))
    assert 0.75 < similarity < 0.85
    assert found["AP75"] == 1
    assert found["AP"] == pytest.approx(sum(t <= similarity for t in np.arange(0.5, 1, 0.05)) / 10)


def test_nothing_labelled_and_nothing_found():
    nothing = {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    assert set(evaluate_keypoints(nothing, [], sigmas=(0.5,)).values()) == {-1.0}
    labels = [(1, "a.jpg", (100, 100), np.zeros(1), np.array([[5.0, 5, 40, 20]]))]
    truth = annotations_from_labels(labels, {0: "thing"}, [np.array([[[10.0, 10, 2]]])])
    assert evaluate_keypoints(truth, [], sigmas=(0.5,))["AP"] == 0
