"""Group d: which predictions are right at which overlap; group i: the overlap of keypoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from golden.golden import golden_files
from sightline.metrics.keypoint_similarity import keypoint_similarity
from sightline.metrics.matching import IOU_THRESHOLDS, match_predictions


@pytest.mark.parametrize("path", golden_files("data_metrics/d_matching.npz"))
def test_true_positives(path: Path):
    recorded = np.load(path)
    np.testing.assert_array_equal(IOU_THRESHOLDS, recorded["iouv"])
    cases = [name.removesuffix("_tp") for name in recorded if name.endswith("_tp")]
    assert cases
    for case in cases:
        inputs = (recorded[f"{case}_{name}"] for name in ("pred_cls", "true_cls", "iou"))
        np.testing.assert_array_equal(match_predictions(*inputs), recorded[f"{case}_tp"], err_msg=case)


@pytest.mark.parametrize("path", golden_files("data_metrics/i_oks.npz"))
def test_keypoint_similarity(path: Path):
    recorded = np.load(path)
    cases = [name.removesuffix("_oks") for name in recorded if name.endswith("_oks")]
    assert cases
    for case in cases:
        inputs = (recorded[f"{case}_{name}"] for name in ("gt_kpts", "pred_kpts", "area", "sigma"))
        np.testing.assert_allclose(keypoint_similarity(*inputs), recorded[f"{case}_oks"], atol=1e-5, err_msg=case)
