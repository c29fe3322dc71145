"""Group c: precision, recall, F1 and AP of every class, and the curves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from golden.golden import golden_files, golden_path
from sightline.metrics.average_precision import ap_per_class, compute_ap, smooth
from sightline.metrics.metric import Metric


def _results(path: Path):
    recorded = np.load(path)
    return recorded, ap_per_class(*(recorded[f"in_{name}"] for name in ("tp", "conf", "pred_cls", "target_cls")))


@pytest.mark.parametrize("path", golden_files("data_metrics/c_ap_*.npz"))
def test_every_output(path: Path):
    recorded, results = _results(path)
    names = [name for name in recorded if name.startswith("out_")]
    assert names
    for name in names:
        np.testing.assert_allclose(getattr(results, name.removeprefix("out_")), recorded[name], atol=1e-6, err_msg=name)
        assert getattr(results, name.removeprefix("out_")).shape == recorded[name].shape, name


@pytest.mark.parametrize("path", golden_files("data_metrics/c_ap_summary.json"))
def test_means(path: Path):
    recorded = json.loads(path.read_text())
    cases = {name: case for name, case in recorded.items() if isinstance(case, dict) and "mean_results" in case}
    assert cases
    for name, case in cases.items():
        metric = Metric(case["nc"])
        metric.update(_results(golden_path(f"data_metrics/c_ap_{name}.npz"))[1])
        for key in ("mp", "mr", "map50", "map75", "map", "maps", "ap50", "ap"):
            np.testing.assert_allclose(getattr(metric, key), case[key], atol=1e-6, err_msg=f"{name} {key}")
        np.testing.assert_allclose(metric.mean_results(), case["mean_results"], atol=1e-6)
        assert metric.fitness() == pytest.approx(case["fitness"], abs=1e-6)
        assert metric.ap_class_index.tolist() == case["ap_class_index"]


@pytest.mark.parametrize("path", golden_files("data_metrics/c_ap_summary.json"))
def test_one_curve(path: Path):
    for case in json.loads(path.read_text())["compute_ap"]:
        ap, precision, recall = compute_ap(case["recall"], case["precision"])
        assert ap == pytest.approx(case["ap"], abs=1e-6)
        np.testing.assert_allclose(precision, case["mpre"], atol=1e-6)
        np.testing.assert_allclose(recall, case["mrec"], atol=1e-6)


@pytest.mark.parametrize("path", golden_files("data_metrics/c_ap_summary.json"))
def test_smoothing(path: Path):
    case = json.loads(path.read_text())["smooth"]
    fractions = [name for name in case if name.startswith("f")]
    assert fractions
    for name in fractions:
        np.testing.assert_allclose(smooth(np.array(case["y"]), float(name[1:])), case[name], atol=1e-6)
