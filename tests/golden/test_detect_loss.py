"""The detection loss against `training/loss_detect_*.npz`: loss, items, gradients, targets; and class weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from golden.golden import golden_files
from golden.loss_inputs import cases, feature_maps, load, relative_error, stand_in_model, target_batch
from sightline.losses.detect import v8DetectionLoss
from sightline.losses.targets import pad_targets
from sightline.losses.terms.class_weights import class_weights


def _loss_of(arrays, case) -> v8DetectionLoss:
    weights = torch.from_numpy(case["class_weights"]) if "class_weights" in case else None
    gains = {name.removeprefix("gain_"): float(value) for name, value in arrays.items() if name.startswith("gain_")}
    model = stand_in_model(
        nc=int(arrays["nc"]), reg_max=int(arrays["reg_max"]), strides=arrays["strides"], class_weights=weights, **gains
    )
    topk, topk2 = int(case["topk"]), int(case["topk2"])
    return v8DetectionLoss(model, tal_topk=topk, tal_topk2=None if topk2 == topk else topk2)


@pytest.mark.parametrize("path", golden_files("training/loss_detect_*.npz"))
def test_every_case(path):
    arrays = load(path)
    found = cases(arrays)
    assert found
    for name, case in found.items():
        heads = {key: torch.from_numpy(case[key]).requires_grad_() for key in ("boxes", "scores")}
        preds = {**heads, "feats": feature_maps(arrays["image_hw"], arrays["strides"])}
        loss, items = _loss_of(arrays, case)(preds, target_batch(case))
        loss.sum().backward()
        assert list(items) == case["item_names"].tolist()
        assert relative_error(loss, case["loss"]) <= 1e-5, f"{name} loss"
        assert relative_error(torch.stack(list(items.values())), case["items"]) <= 1e-5, f"{name} items"
        for key, tensor in heads.items():
            assert tensor.grad is not None, f"{name} {key} is not connected to the loss"
            if f"grad_{key}" in case:
                assert relative_error(tensor.grad, case[f"grad_{key}"]) <= 1e-4, f"{name} grad_{key}"


@pytest.mark.parametrize("path", golden_files("training/loss_detect_*.npz"))
def test_padded_targets(path):
    arrays = load(path)
    height, width = (float(side) for side in arrays["image_hw"])
    for name, case in cases(arrays).items():
        rows = torch.from_numpy(np.concatenate([case["batch_idx"][:, None], case["cls"][:, None], case["bboxes"]], 1))
        scale = torch.tensor([width, height, width, height])
        padded = pad_targets(rows, case["boxes"].shape[0], scale)
        assert relative_error(padded, case["padded_targets"]) <= 1e-5, name


@pytest.mark.parametrize("path", golden_files("training/misc.npz"))
def test_class_weights(path):
    arrays = load(path)
    recorded = {key: value for key, value in arrays.items() if key.startswith("class_weights_pw")}
    assert recorded
    for key, expected in recorded.items():
        power = float(key.removeprefix("class_weights_pw").removesuffix("_64"))
        actual = class_weights(torch.from_numpy(arrays["class_counts"]), power)
        assert relative_error(actual, expected) <= 1e-6, key  # computed in float32
