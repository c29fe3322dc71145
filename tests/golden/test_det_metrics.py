"""Group c, `det_metrics`: the object people read their results from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from golden.golden import golden_files
from sightline.metrics.detect import DetMetrics


@pytest.mark.parametrize("path", golden_files("data_metrics/c_ap_summary.json"))
def test_metrics_of_a_few_images(path: Path):
    recorded = json.loads(path.read_text())["det_metrics"]
    metrics = DetMetrics({int(number): name for number, name in recorded["names"].items()})
    for image in recorded["images"]:
        metrics.update(
            tp=np.array(image["tp"], dtype=bool).reshape(len(image["conf"]), 10),
            conf=np.array(image["conf"]),
            pred_cls=np.array(image["pred_cls"]),
            target_cls=np.array(image["target_cls"]),
            path=image["im_name"],
        )
    assert metrics.compute() == pytest.approx(recorded["results_dict"], abs=1e-6)
    assert metrics.results_dict.keys() == recorded["results_dict"].keys()
    assert metrics.keys == recorded["keys"]
    assert metrics.nt_per_class.tolist() == recorded["nt_per_class"]
    assert metrics.nt_per_image.tolist() == recorded["nt_per_image"]
    assert metrics.ap_class_index.tolist() == recorded["ap_class_index"]
    np.testing.assert_allclose(metrics.maps, recorded["maps"], atol=1e-6)
    assert metrics.curves == recorded["curves"]
    assert [curve[2:] for curve in metrics.curves_results] == recorded["curve_axis_titles"]
    assert len(metrics.summary()) == len(recorded["summary"])
    for row, expected in zip(metrics.summary(), recorded["summary"], strict=True):
        assert list(row) == list(expected)
        assert row == pytest.approx(expected, abs=1e-6)
    assert metrics.box.image_metrics.keys() == recorded["image_metrics"].keys()
    for name, expected in recorded["image_metrics"].items():
        assert metrics.box.image_metrics[name] == pytest.approx(expected, abs=1e-9), name
