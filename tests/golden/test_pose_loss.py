"""The pose losses against `training/loss_pose_*.npz`, and the flow of YOLO26-pose against what was recorded of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from golden.fill import filled_state
from golden.golden import golden_files
from golden.loss_inputs import feature_maps, load, relative_error, stand_in_model, target_batch
from sightline.losses.end_to_end import E2ELoss
from sightline.losses.pose import PoseLoss26, v8PoseLoss
from sightline.models.build import build_model
from sightline.nn.flow import RealNVP

FILES = golden_files("training/loss_pose_*.npz")
PREDICTED = ("boxes", "scores", "kpts", "kpts_sigma")


def recorded_flow(arrays) -> RealNVP | None:
    state = {name.removeprefix("flow."): torch.from_numpy(arrays[name]) for name in arrays if name.startswith("flow.")}
    if not state:
        return None
    flow = RealNVP()
    flow.load_state_dict(state)
    return flow


def loss_model(arrays):
    model = stand_in_model(nc=int(arrays["nc"]), reg_max=int(arrays["reg_max"]), strides=arrays["strides"])
    head = model.model[0]
    head.kpt_shape = tuple(int(each) for each in arrays["kpt_shape"])
    flow = recorded_flow(arrays)
    if flow is not None:
        head.flow_model = flow
    return model


def loss_class(arrays):
    return v8PoseLoss if recorded_flow(arrays) is None else PoseLoss26


def raw_predictions(arrays) -> tuple[dict, dict]:
    heads = {key: torch.from_numpy(arrays[key]).requires_grad_() for key in PREDICTED if key in arrays}
    return heads, {**heads, "feats": feature_maps(arrays["image_hw"], arrays["strides"])}


def batch_of(arrays) -> dict:
    return {**target_batch(arrays), "keypoints": torch.from_numpy(arrays["keypoints"])}


def no_targets(arrays) -> dict:
    return {name: value[:0] for name, value in batch_of(arrays).items()}


def compare(loss, items, arrays, prefix="") -> None:
    assert list(items) == arrays[f"{prefix}item_names"].tolist()
    assert relative_error(torch.stack(list(items.values())), arrays[f"{prefix}items"]) <= 1e-5, f"{prefix} items"
    assert relative_error(loss, arrays[f"{prefix}loss"]) <= 1e-5, f"{prefix} loss"


@pytest.mark.parametrize("path", FILES)
def test_values_and_gradients(path):
    arrays = load(path)
    heads, preds = raw_predictions(arrays)
    loss, items = loss_class(arrays)(loss_model(arrays))(preds, batch_of(arrays))
    compare(loss, items, arrays)
    loss.sum().backward()
    assert relative_error(heads["boxes"].grad, arrays["grad_boxes"]) <= 1e-4
    assert relative_error(heads["kpts"].grad, arrays["grad_kpts"]) <= 1e-4
    if "kpts_sigma" in heads:
        assert heads["kpts_sigma"].grad.abs().sum() > 0


@pytest.mark.parametrize("path", FILES)
def test_a_batch_without_targets(path):
    arrays = load(path)
    heads, preds = raw_predictions(arrays)
    loss, items = loss_class(arrays)(loss_model(arrays))(preds, no_targets(arrays))
    compare(loss, items, arrays, "notargets.")
    loss.sum().backward()
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in heads.values())


@pytest.mark.parametrize("path", golden_files("training/loss_pose_26.npz"))
def test_both_branches(path):
    arrays = load(path)
    _, preds = raw_predictions(arrays)
    loss, items = E2ELoss(loss_model(arrays), PoseLoss26)({"one2many": preds, "one2one": preds}, batch_of(arrays))
    compare(loss, items, arrays, "e2e_same_preds.")


@pytest.mark.parametrize("path", golden_files("training/loss_pose_26*.npz"))
def test_densities_of_the_flow(path):
    arrays = load(path)
    density = recorded_flow(arrays).log_prob(torch.from_numpy(arrays["flow_input"]))
    np.testing.assert_allclose(density.detach().numpy(), arrays["flow_log_prob"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("path", golden_files("models/yolo26n-pose.npz"))
def test_flow_of_the_filled_network(path):
    recorded = load(path)
    network = build_model("yolo26n-pose")
    network.load_state_dict(filled_state(network, recorded))
    flow = network.head.flow_model.double()
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((64, 2)).astype(np.float32)).double()
    with torch.no_grad():
        z, log_det = flow.backward_p(x)
        found = {"flow/z": z, "flow/log_det": log_det, "flow/log_prob": flow.log_prob(x)}
    for name, value in found.items():
        np.testing.assert_allclose(value.numpy(), recorded[name], rtol=1e-5, atol=1e-5, err_msg=name)
