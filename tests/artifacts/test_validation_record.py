from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sightline.artifacts.validation_record import NAME, read_validation, record_of, write_validation
from sightline.metrics.confusion import ConfusionMatrix
from sightline.metrics.detect import DetMetrics


def metrics() -> DetMetrics:
    """Class 0: two objects, one found at 0.9, one wrong at 0.4; class 1: found; class 2 never labelled."""
    measured = DetMetrics({0: "a", 1: "b", 2: "c"})
    right = np.zeros((3, 10), bool)
    right[0], right[2] = True, True
    measured.update(
        tp=right,
        conf=np.array([0.9, 0.4, 0.8]),
        pred_cls=np.array([0.0, 0.0, 1.0]),
        target_cls=np.array([0.0, 0.0, 1.0]),
        path="x.png",
    )
    measured.compute()
    measured.confusion_matrix = ConfusionMatrix(measured.names)
    return measured


def test_a_record_has_the_numbers_of_the_metrics(tmp_path: Path):
    measured = metrics()
    write_validation(tmp_path, record_of(measured, images=1, speed={"inference": 2.0}))
    record = read_validation(tmp_path)
    assert record is not None
    a, b, c = record["classes"]
    assert (a["name"], a["objects"], a["images"]) == ("a", 2, 1)
    assert a["Box"]["mAP50"] == pytest.approx(measured.box.ap50[0], abs=1e-4)
    assert b["Box"]["mAP50-95"] == pytest.approx(0.995, abs=1e-3)
    assert c["Box"]["f1"] is None  # not 0: nothing is known
    assert record["metrics"]["metrics/mAP50(B)"] == pytest.approx(measured.box.map50, abs=1e-4)
    curve = record["curves"]["Box"]
    assert curve["classes"] == ["a", "b"]  # the class with the most objects first
    assert (curve["x"][0], curve["x"][-1], len(curve["x"])) == (0.0, 1.0, 101)
    assert curve["recall"]["mean"][0] == pytest.approx((0.5 + 1) / 2, abs=1e-3)
    assert record["confusion"]["matrix"] == np.zeros((4, 4), int).tolist()


def test_nothing_that_is_no_json_is_written(tmp_path: Path):
    measured = metrics()
    measured.box.p[0] = np.nan
    text = write_validation(tmp_path, record_of(measured, images=1, speed={})).read_text()
    assert json.loads(text, parse_constant=pytest.fail)["classes"][0]["Box"]["precision"] is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99}'])
def test_a_file_of_another_kind_is_none(tmp_path: Path, text: str):
    (tmp_path / NAME).write_text(text)
    assert read_validation(tmp_path) is None
