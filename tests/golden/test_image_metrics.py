"""Group g: precision, recall and counts of single images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from golden.golden import golden_files
from sightline.metrics.detect import DetMetrics


@pytest.mark.parametrize("path", golden_files("data_metrics/g_image_metrics.json"))
def test_image_metrics(path: Path):
    recorded = json.loads(path.read_text())
    classes = [c for image in recorded["inputs"] for c in image["pred_cls"] + image["target_cls"]]
    metrics = DetMetrics({i: str(i) for i in range(int(max(classes)) + 1)})
    for image in recorded["inputs"]:
        metrics.update(
            tp=np.array(image["tp"], dtype=bool).reshape(len(image["pred_cls"]), -1)
            if image["tp"]
            else np.zeros((0, 10), dtype=bool),
            conf=np.full(len(image["pred_cls"]), 0.5),
            pred_cls=np.array(image["pred_cls"], dtype=float),
            target_cls=np.array(image["target_cls"], dtype=float),
            path=image["im_name"],
        )
    metrics.compute()
    assert metrics.box.image_metrics.keys() == recorded["image_metrics"].keys()
    for name, expected in recorded["image_metrics"].items():
        assert metrics.box.image_metrics[name] == pytest.approx(expected, abs=1e-9), name
