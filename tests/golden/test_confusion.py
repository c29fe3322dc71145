"""Group e: the confusion matrix at several confidences and overlaps."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from golden.golden import golden_files
from sightline.metrics.confusion import ConfusionMatrix
from sightline.ops.iou import pairwise_iou


def _boxes(rows: list) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


@pytest.mark.parametrize("path", golden_files("data_metrics/e_confusion_matrix.json"))
def test_counts(path: Path):
    recorded = json.loads(path.read_text())
    assert recorded["results"]
    for name, expected in recorded["results"].items():
        conf, iou_threshold = map(float, re.fullmatch(r"conf([\d.]+)_iou([\d.]+)", name).groups())
        matrix = ConfusionMatrix({i: str(i) for i in range(recorded["nc"])})
        for image in recorded["images"]:
            overlap = pairwise_iou(_boxes(image["gt_boxes"]), _boxes(image["det_boxes"])).numpy()
            matrix.update(
                overlap,
                np.array(image["det_conf"]),
                np.array(image["det_cls"]),
                np.array(image["gt_cls"]),
                conf=conf,
                iou_threshold=iou_threshold,
            )
        np.testing.assert_array_equal(matrix.matrix, expected["matrix"], err_msg=name)
        right, wrong = matrix.tp_fp()
        assert (right.tolist(), wrong.tolist()) == (expected["tp"], expected["fp"])
        assert matrix.summary() == expected["summary"]
        assert matrix.summary(normalize=True) == expected["summary_normalized"]
