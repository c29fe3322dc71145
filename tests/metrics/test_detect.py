"""DetMetrics: what users read, and the ways it is put together."""

from __future__ import annotations

import csv
import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from sightline.errors import MissingExtraError
from sightline.metrics.detect import DetMetrics
from sightline.metrics.fitness import fitness

NAMES = {0: "RBC", 1: "WBC", 2: "Platelets"}


def random_images(count: int = 12, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    images = []
    for number in range(count):
        predictions, targets = rng.integers(0, 9), rng.integers(0, 6)
        reached = rng.integers(0, 11, predictions) * (targets > 0)
        images.append(
            {
                "tp": np.arange(10) < reached[:, None],
                "conf": (0.08 * reached + 0.2 * rng.random(predictions)).astype(np.float32),  # the better, the surer
                "pred_cls": rng.integers(0, 3, predictions).astype(np.float32),
                "target_cls": rng.integers(0, 3, targets).astype(np.float32),
                "path": f"images/{number}.jpg",
            }
        )
    return images


def filled(images: list[dict]) -> DetMetrics:
    metrics = DetMetrics(NAMES)
    for image in images:
        metrics.update(**image)
    metrics.compute()
    return metrics


def test_before_any_image_everything_is_zero():
    metrics = DetMetrics(NAMES)
    assert metrics.mean_results() == [0.0] * 4
    assert metrics.results_dict["fitness"] == 0.0
    assert metrics.compute() == metrics.results_dict
    assert metrics.maps.tolist() == [0.0] * 3
    assert metrics.summary() == []


def test_perfect_predictions_score_0995_in_every_class():
    metrics = DetMetrics(NAMES)
    for _ in range(3):
        classes = np.array([0.0, 1.0, 2.0])
        metrics.update(tp=np.ones((3, 10), bool), conf=np.full(3, 0.8), pred_cls=classes, target_cls=classes, path="a")
    metrics.compute()
    np.testing.assert_allclose(metrics.box.ap, 0.995)
    np.testing.assert_allclose(metrics.box.ap75, 0.995)
    assert metrics.class_result(1) == pytest.approx((1.0, 1.0, 0.995, 0.995))
    assert metrics.fitness == pytest.approx(0.995)


def test_parts_merged_are_the_whole():
    images = random_images()
    whole = filled(images)
    parts = [filled(images[:5]), filled(images[5:5]), filled(images[5:])]
    merged = DetMetrics(NAMES)
    for part in parts:
        merged.merge(part.state_dict())
    assert merged.compute() == whole.compute()
    assert merged.box.image_metrics == whole.box.image_metrics
    assert merged.nt_per_image.tolist() == whole.nt_per_image.tolist()


def test_reset_starts_again():
    images = random_images()
    metrics = filled(images)
    first = metrics.results_dict
    metrics.reset()
    for image in images:
        metrics.update(**image)
    assert metrics.compute() == first


def test_equal_file_names_in_different_folders_stay_apart():
    images = random_images(3)
    for image, path in zip(images, ["a/1.jpg", "b/1.jpg", "b/2.jpg"], strict=True):
        image["path"] = path
    metrics = filled(images)
    assert list(metrics.box.image_metrics) == ["a/1.jpg", "b/1.jpg", "2.jpg"]
    for image, name in zip(images, metrics.box.image_metrics, strict=True):
        assert metrics.box.image_metrics[name]["tp"] == image["tp"][:, 0].sum()


def test_image_metrics_at_the_best_confidence_leave_out_the_unsure():
    images = random_images()
    box = filled(images).box
    assert 0 < box.best_conf < 1
    for image, (name, numbers) in zip(images, box.image_metrics_best.items(), strict=True):
        sure = image["conf"] > box.best_conf
        assert numbers["tp"] + numbers["fp"] == sure.sum()
        assert numbers["tp"] == image["tp"][sure, 0].sum()
        assert box.image_metrics[name]["fp"] >= numbers["fp"]


def test_tables():
    metrics = filled(random_images())
    rows = metrics.summary()
    assert [row["Class"] for row in rows] == ["RBC", "WBC", "Platelets"]
    assert json.loads(metrics.to_json()) == rows
    read = list(csv.DictReader(io.StringIO(metrics.to_csv())))
    assert [row["Class"] for row in read] == ["RBC", "WBC", "Platelets"]
    assert float(read[0]["mAP50-95"]) == rows[0]["mAP50-95"]


def test_to_df_without_polars_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingExtraError, match="dataframe"):
        filled(random_images()).to_df()


def test_to_df_hands_the_rows_to_polars(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "polars", SimpleNamespace(DataFrame=tuple))
    metrics = filled(random_images())
    assert metrics.to_df() == tuple(metrics.summary())


def test_to_df_with_polars_itself():
    pytest.importorskip("polars")
    metrics = filled(random_images())
    assert metrics.to_df().to_dicts() == metrics.summary()


def test_coco_numbers_join_the_results():
    metrics = filled(random_images())
    metrics.coco = {"AP": 0.5, "AP50": 0.7}
    assert metrics.results_dict["metrics/coco/AP"] == 0.5
    assert metrics.results_dict["metrics/coco/AP50"] == 0.7


def test_fitness_is_the_last_number_and_nan_counts_as_nothing():
    assert fitness([1.0, 1.0, 1.0, 0.25]) == 0.25
    assert fitness([0.0, 0.0, 0.0, float("nan")]) == 0.0
