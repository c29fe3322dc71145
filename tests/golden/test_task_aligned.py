"""The assigner against `training/tal.npz`: candidates and all five outputs of every case, exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from golden.golden import golden_files
from golden.loss_inputs import cases, load, relative_error
from sightline.losses.assign.task_aligned import TaskAlignedAssigner

INPUTS = ("pd_scores", "pd_bboxes", "gt_labels", "gt_bboxes", "mask_gt")
OUTPUTS = ("target_labels", "target_bboxes", "target_scores", "fg_mask", "target_gt_idx")
EXACT = ("target_labels", "fg_mask", "target_gt_idx")
VALUES = ("target_bboxes", "target_scores")


@pytest.mark.parametrize("path", golden_files("training/tal.npz"))
def test_every_case(path):
    arrays = load(path)
    points = torch.from_numpy(arrays["anchors_px"])
    strides = sorted(set(arrays["anchor_stride"].tolist()))
    found = cases(arrays)
    assert found
    for name, case in found.items():
        assigner = TaskAlignedAssigner(
            topk=int(case["topk"]),
            topk2=int(case["topk2"]),
            num_classes=int(arrays["num_classes"]),
            alpha=float(case["alpha"]),
            beta=float(case["beta"]),
            stride=strides,
        )
        scores, boxes, labels, targets, mask = (torch.from_numpy(case[key]) for key in INPUTS)
        outputs = dict(zip(OUTPUTS, assigner(scores, boxes, points, labels, targets, mask), strict=True))
        for key in EXACT:
            np.testing.assert_array_equal(outputs[key].numpy(), case[key], err_msg=f"{name} {key}")
        for key in VALUES:
            assert relative_error(outputs[key], case[key]) <= 1e-5, f"{name} {key}"
        if case["in_gts"].size:
            everywhere = torch.ones(targets.shape[:2], dtype=torch.bool)  # the recording is that before mask_gt
            pairs = assigner.candidates(targets, everywhere, points)
            table = np.zeros(case["in_gts"].shape, dtype=bool)
            table.reshape(-1, len(points))[pairs.target.numpy(), pairs.anchor.numpy()] = True
            valid = case["mask_gt"][..., 0] > 0
            np.testing.assert_array_equal(table[valid], case["in_gts"][valid], err_msg=f"{name} in_gts")
