"""The two-branch losses against `training/loss_e2e.npz`: branches, sums at several epochs, the schedule."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from golden.golden import golden_files
from golden.loss_inputs import cases, feature_maps, load, relative_error, stand_in_model, target_batch
from sightline.losses.detect import v8DetectionLoss
from sightline.losses.end_to_end import E2EDetectLoss, E2ELoss

FILES = golden_files("training/loss_e2e.npz")


def _model(arrays, epochs: int):
    return stand_in_model(
        nc=int(arrays["nc"]), reg_max=int(arrays["reg_max"]), strides=arrays["strides"], epochs=epochs
    )


def _preds(arrays) -> dict:
    maps = feature_maps(arrays["image_hw"], arrays["strides"])
    return {
        branch: {**{key: torch.from_numpy(arrays[f"{branch}.{key}"]) for key in ("boxes", "scores")}, "feats": maps}
        for branch in ("one2many", "one2one")
    }


def _assert_same(result, case, name: str) -> None:
    loss, items = result
    assert relative_error(loss, case["loss"]) <= 1e-5, f"{name} loss"
    assert relative_error(torch.stack(list(items.values())), case["items"]) <= 1e-5, f"{name} items"
    if "item_names" in case:
        assert list(items) == case["item_names"].tolist()


@pytest.mark.parametrize("path", FILES)
def test_sums_at_several_epochs(path):
    arrays = load(path)
    found = {name: case for name, case in cases(arrays).items() if "updates" in case}
    assert found
    for name, case in found.items():
        loss = E2ELoss(_model(arrays, int(arrays["epochs"])))
        for _ in range(int(case["updates"])):
            loss.update()
        assert relative_error([loss.o2m, loss.o2o], case["weights64"]) <= 1e-9
        decoded = torch.zeros(1)
        _assert_same(loss(_preds(arrays), target_batch(arrays)), case, name)
        _assert_same(loss((decoded, _preds(arrays)), target_batch(arrays)), case, f"{name}, evaluation form")


@pytest.mark.parametrize("path", FILES)
def test_branches_alone(path):
    arrays = load(path)
    model, found, preds = _model(arrays, int(arrays["epochs"])), cases(arrays), _preds(arrays)
    many = v8DetectionLoss(model, tal_topk=10)
    one = v8DetectionLoss(model, tal_topk=7, tal_topk2=1)
    _assert_same(many(preds["one2many"], target_batch(arrays)), found["one2many"], "one2many")
    _assert_same(one(preds["one2one"], target_batch(arrays)), found["one2one"], "one2one")


@pytest.mark.parametrize("path", FILES)
def test_legacy_sum(path):
    arrays = load(path)
    loss = E2EDetectLoss(_model(arrays, int(arrays["epochs"])))
    _assert_same(loss(_preds(arrays), target_batch(arrays)), cases(arrays)["legacy_v10"], "legacy_v10")


@pytest.mark.parametrize("path", FILES)
def test_schedule(path):
    arrays = load(path)
    recorded = {key: value for key, value in arrays.items() if key.startswith("schedule_epochs")}
    assert recorded
    for key, expected in recorded.items():
        loss = E2ELoss(_model(arrays, int(key.removeprefix("schedule_epochs").removesuffix("_64"))))
        rows = []
        for _ in expected:
            rows.append([loss.o2m, loss.o2o])
            loss.update()
        assert relative_error(np.array(rows), expected) <= 1e-9, key
