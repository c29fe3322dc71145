"""Label files with every defect: which pairs are kept, what is counted, what becomes of the labels; and label paths."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from golden.golden import GOLDEN, golden_files, golden_path, register_cases, same_or_deviation
from sightline.data.formats.yolo import LabelRules, label_path
from sightline.data.verify import Pair, verify_pair

SUBJECT = "j_labels"
golden_files("data_metrics/j_labels/*", "data_metrics/j_labels_expected.json")  # files read through the expectations


def expectations() -> dict:
    path = GOLDEN / "data_metrics/j_labels_expected.json"
    return json.loads(path.read_text()) if path.exists() else {}


def cases() -> list[tuple[str, str]]:
    return [
        (suite, name)
        for suite, content in expectations().items()
        if isinstance(content, dict) and "files" in content
        for name in content["files"]
    ]


def rules_of(config: dict) -> LabelRules:
    keypoints = (config["nkpt"], config["ndim"]) if config["nkpt"] else None
    task = "pose" if config["keypoint"] else "detect"
    return LabelRules(task, config["nc"], keypoints, config["single_cls"], "the suite")


def image_of(suite: str, name: str) -> Path:
    folder = golden_path(f"data_metrics/j_labels/{suite}/images")
    return next(path for path in sorted(folder.iterdir()) if path.stem == name)


register_cases(*(f"{SUBJECT}/{suite}/{name}" for suite, name in cases()))


@pytest.mark.parametrize(("suite", "name"), cases(), ids=lambda value: value)
def test_verdict_counters_and_labels(suite: str, name: str):
    content = expectations()[suite]
    expected = content["files"][name]
    pair = verify_pair(image_of(suite, name), rules_of(content["config"]))
    problem = difference(pair, expected, as_set=bool(expected["message"] and "duplicate" in expected["message"]))
    same_or_deviation(f"{SUBJECT}/{suite}/{name}", problem is None, problem or "")


def difference(pair: Pair, expected: dict, *, as_set: bool) -> str | None:
    """What differs from the recording, or None. `as_set`: the reference sorts rows when it removes duplicates."""
    counters = {name: getattr(pair, name) for name in ("missing", "found", "empty", "corrupt")}
    if counters != {name: expected[name] for name in counters}:
        return f"counted {counters}"
    if (pair.labels is not None) != expected["kept"]:
        return f"kept: {pair.labels is not None} {pair.problems}"
    if pair.labels is None:
        return None if pair.problems else "dropped without a reason"
    if [pair.height, pair.width] != expected["shape_hw"]:
        return f"shape {pair.height, pair.width}"
    rows = np.array(expected["labels"], np.float32).reshape(-1, 5)
    order, expected_order = np.arange(len(pair.labels.rows)), np.arange(len(rows))
    if as_set:
        order, expected_order = sorting(pair.labels.rows), sorting(rows)
    if pair.labels.rows.shape != rows.shape or not np.allclose(
        pair.labels.rows[order], rows[expected_order], atol=1e-6
    ):
        return f"rows {pair.labels.rows.tolist()}"
    polygons = np.split(pair.labels.points, np.cumsum(pair.labels.counts)[:-1]) if len(pair.labels.counts) else []
    wanted = [np.array(polygon) for polygon in expected["segments"]]
    if [len(polygon) for polygon in polygons] and len(polygons) == len(wanted):
        polygons, wanted = [polygons[i] for i in order], [wanted[i] for i in expected_order]
    if len(polygons) != len(wanted) or not all(
        a.shape == b.shape and np.allclose(a, b, atol=1e-6) for a, b in zip(polygons, wanted, strict=True)
    ):
        return f"polygons {polygons}"
    if (pair.labels.keypoints is None) != (expected["keypoints"] is None):
        return f"keypoints {pair.labels.keypoints}"
    if expected["keypoints"] is not None:
        points = np.array(expected["keypoints"], np.float32).reshape(pair.labels.keypoints.shape)
        if not np.allclose(pair.labels.keypoints, points, atol=1e-6):
            return f"keypoints {pair.labels.keypoints}"
    return None


def sorting(rows: np.ndarray) -> np.ndarray:
    return np.lexsort(rows.T[::-1])


@pytest.mark.parametrize("suite", sorted({suite for suite, _ in cases()}))
def test_totals_and_files_untouched(suite: str, tmp_path: Path):
    content = expectations()[suite]
    source = golden_path(f"data_metrics/j_labels/{suite}")
    folder = Path(shutil.copytree(source, tmp_path / suite))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    images = sorted((folder / "images").iterdir())
    pairs = [verify_pair(image, rules_of(content["config"])) for image in images]
    totals = {name: sum(getattr(pair, name) for pair in pairs) for name in content["totals"]}
    assert totals == content["totals"]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_label_paths():
    pairs = expectations().get("img2label_paths") or pytest.skip("no golden folder")
    assert {image: label_path(image) for image in pairs} == pairs
