"""Metrics of boxes and keypoints together."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.metrics.detect import DetMetrics
from sightline.metrics.pose import PoseMetrics

NAMES = {0: "arrow", 1: "house"}


def images(seed: int = 0, count: int = 12) -> list[dict]:
    rng, made = np.random.default_rng(seed), []
    for number in range(count):
        found, labelled = int(rng.integers(0, 6)), int(rng.integers(0, 4))
        right = rng.random((found, 10)) < np.linspace(0.8, 0.3, 10)
        made.append(
            {
                "tp": right,
                "tp_pose": right & (rng.random((found, 10)) < 0.7),
                "conf": rng.random(found),
                "pred_cls": rng.integers(0, 2, found).astype(float),
                "target_cls": rng.integers(0, 2, labelled).astype(float),
                "path": f"{number}.jpg",
            }
        )
    return made


def filled(rows: list[dict], **changes) -> PoseMetrics:
    metrics = PoseMetrics(NAMES)
    for row in rows:
        metrics.update(**row)
    metrics.compute()
    return metrics


def boxes_only(rows: list[dict], column: str) -> DetMetrics:
    metrics = DetMetrics(NAMES)
    for row in rows:
        metrics.update(**{name: value for name, value in row.items() if name != "tp_pose"} | {"tp": row[column]})
    metrics.compute()
    return metrics


def test_keypoints_are_measured_as_boxes_are():
    rows = images()
    both, boxes, points = filled(rows), boxes_only(rows, "tp"), boxes_only(rows, "tp_pose")
    assert both.mean_results() == boxes.mean_results() + points.mean_results()
    assert both.class_result(1) == boxes.class_result(1) + points.class_result(1)
    np.testing.assert_allclose(both.maps, boxes.maps + points.maps)
    assert both.fitness == pytest.approx(boxes.fitness + points.fitness)
    assert both.pose.image_metrics == points.box.image_metrics
    assert both.pose.map < both.box.map


def test_names():
    metrics = filled(images())
    assert metrics.keys[:4] == DetMetrics(NAMES).keys
    assert metrics.keys[4:] == [key.replace("(B)", "(P)") for key in DetMetrics(NAMES).keys]
    assert [*metrics.results_dict][:9] == [*metrics.keys, "fitness"]
    assert len(metrics.curves) == len(metrics.curves_results) == 8
    row = metrics.summary()[0]
    assert row["Pose-P"] == round(float(metrics.pose.p[0]), 5)
    assert {"Box-P", "mAP50-95", "Pose-R", "Pose-F1"} <= set(row)


def test_parts_of_several_processes_are_put_together():
    rows = images()
    whole, first, second = filled(rows), filled(rows[:5]), filled(rows[5:])
    joined = PoseMetrics(NAMES)
    for part in (first, second, PoseMetrics(NAMES)):
        joined.merge(part.state_dict())
    assert joined.compute() == whole.results_dict
    joined.reset()
    assert joined.compute()["metrics/mAP50(P)"] == 0


def test_an_update_without_keypoints_is_a_mistake_of_the_caller():
    row = {name: value for name, value in images()[0].items() if name != "tp_pose"}
    with pytest.raises(TypeError, match="tp_pose"):
        PoseMetrics(NAMES).update(**row)
