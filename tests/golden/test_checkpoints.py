"""A file written by the reference, read without it: its exact weights, what it says of them, and its outputs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from golden import golden
from golden.fill import fill, filled_state
from golden.reference_file import write_as_reference
from golden.test_models import LOOSE, STRICT, output_differences
from models.reference_rows import FACTS, descriptions, filled, means_of
from sightline.artifacts.foreign import read_foreign
from sightline.artifacts.weights_file import read_weights
from sightline.facade import YOLO
from sightline.models.build import build_from_state, build_model

FILES = golden.golden_files("checkpoints/*.pt")


def rebuilt(pattern: str) -> list:
    """Files whose network must be built for the test; of networks that are not built yet it must fail."""
    cases = []
    for case in golden.golden_files(pattern):
        (path,) = case.values
        why = golden.not_built(golden.GOLDEN / "models" / f"{path.stem}.npz") if path else None
        marks = [pytest.mark.xfail(strict=True, reason=f"not built yet: {why}")] if why else case.marks
        cases.append(pytest.param(path, id=case.id, marks=marks))
    return cases


@pytest.mark.parametrize("path", FILES)
def test_state_dict(path):
    weights = read_weights(path)
    description = golden.SPEC / "state_dict" / f"{path.stem}.json"
    if not description.exists():
        pytest.skip(f"{description} is missing; set SIGHTLINE_SPEC")
    recorded = json.loads(description.read_text())
    assert list(weights.state) == list(recorded)
    for name, (shape, dtype) in recorded.items():
        tensor = weights.state[name]
        assert [list(tensor.shape), str(tensor.dtype)] == [shape, f"torch.{dtype}"], name


@pytest.mark.parametrize("path", rebuilt("checkpoints/*.pt"))
def test_exact_values(path):
    """The weights are a formula, rounded to half precision when the file was written."""
    state = read_foreign(path).state
    formula = filled_state(build_model(path.stem), dict(np.load(golden.golden_path(f"models/{path.stem}.npz"))))
    for name, value in formula.items():
        expected = value.half().float() if value.is_floating_point() else value
        assert torch.equal(state[name], expected), name


@pytest.mark.parametrize("path", FILES)
def test_description(path):
    weights = read_weights(path)
    assert weights.kind == "reference"
    assert weights.names == {index: str(index) for index in range(weights.nc)}
    assert weights.yaml["nc"] == weights.nc
    assert weights.yaml["yaml_file"] == f"{path.stem}.yaml"
    assert weights.task == weights.args["task"]
    assert len(weights.stride)
    assert all(stride in (4, 8, 16, 32, 64) for stride in weights.stride.tolist())
    assert weights.args["epochs"] == 100
    assert {"date", "version", "license"} <= set(weights.meta)


@pytest.mark.parametrize("path", rebuilt("checkpoints/*.npz"))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, STRICT), (torch.float32, LOOSE)])
def test_outputs_of_the_network_rebuilt_from_the_file_alone(path, dtype, tolerance):
    weights = read_weights(golden.golden_path(f"checkpoints/{path.stem}.pt"))
    network = build_model(weights.yaml, nc=weights.nc, names=weights.names)
    network.load_state_dict(weights.state)
    problems = output_differences(network, dict(np.load(path)), dtype, tolerance)
    assert not problems, "\n".join(problems[:10])


YOLO12 = {
    "nc": 80,
    "scale": "n",
    "yaml_file": "yolo12n.yaml",
    "scales": {"n": [0.50, 0.25, 1024], "l": [1.00, 1.00, 512]},
    "backbone": [
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 2, "C3k2", [256, False, 0.25]],
        [-1, 1, "Conv", [256, 3, 2]],
        [-1, 2, "C3k2", [512, False, 0.25]],
        [-1, 1, "Conv", [512, 3, 2]],
        [-1, 4, "A2C2f", [512, True, 4]],
        [-1, 1, "Conv", [1024, 3, 2]],
        [-1, 4, "A2C2f", [1024, True, 1]],
    ],
    "head": [
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 6], 1, "Concat", [1]],
        [-1, 2, "A2C2f", [512, False, -1]],
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 4], 1, "Concat", [1]],
        [-1, 2, "A2C2f", [256, False, -1]],
        [-1, 1, "Conv", [256, 3, 2]],
        [[-1, 11], 1, "Concat", [1]],
        [-1, 2, "A2C2f", [512, False, -1]],
        [-1, 1, "Conv", [512, 3, 2]],
        [[-1, 8], 1, "Concat", [1]],
        [-1, 2, "C3k2", [1024, True]],
        [[14, 17, 20], 1, "Detect", ["nc"]],
    ],
}


@pytest.mark.parametrize("path", golden.golden_files("models/yolo12*.npz"))
def test_a_whole_network_of_yolo12_is_rebuilt_from_its_file(path, tmp_path):
    """No file of the reference is recorded for it, so one is made: its layout, its names of classes, half precision."""
    recorded = dict(np.load(path))
    network = build_model(path.stem)
    network.load_state_dict(filled_state(network, recorded))
    file = tmp_path / "yolov12n.pt"
    write_as_reference(file, network, YOLO12)
    assert b"sightline" not in file.read_bytes()
    loaded = YOLO(str(file))
    expected = {
        name: value.half().float() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    state = loaded.model.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    # Only rounding stands between its outputs and the recorded ones.
    image = torch.from_numpy(np.random.default_rng(0).random((2, 3, 128, 160)).astype(np.float32))
    with torch.no_grad():
        decoded = loaded.model.eval()(image)[0][..., ::4]
    boxes, scores = recorded["eval/one2many/decoded"][:, :4], recorded["eval/one2many/decoded"][:, 4:]
    np.testing.assert_allclose(decoded[:, :4], boxes, atol=0.5)
    np.testing.assert_allclose(decoded[:, 4:], scores, atol=0.01)


# What running the reference showed of its descriptions: no letter of the size, and the task of a detector.
RTDETR_KEYS = {"scales": {"l": [1.0, 1.0, 1024]}, "scale": "", "yaml_file": "mine.yaml", "channels": 3}


@pytest.mark.parametrize("name", ["HGNet", "ResNet", "encoder, twice", "activation None"])
def test_a_whole_network_of_rtdetr_is_rebuilt_from_its_file(name, tmp_path):
    network = build_model(descriptions()[name])
    network.load_state_dict(filled(fill, network.state_dict()))
    write_as_reference(
        tmp_path / "best.pt", network, {**descriptions()[name], **RTDETR_KEYS}, root_class="RTDETRDetectionModel"
    )
    assert b"sightline" not in (tmp_path / "best.pt").read_bytes()
    weights = read_weights(tmp_path / "best.pt")
    assert weights.task == "rtdetr"
    loaded = build_from_state(weights.yaml, nc=weights.nc, names=weights.names, state=weights.state)
    image = torch.from_numpy(np.random.default_rng(0).random((1, 3, 128, 160)).astype(np.float32))
    with torch.no_grad():
        decoded, raw = loaded(image)
    found = means_of(raw["boxes"][0], raw["scores"][0], raw["encoder_boxes"], raw["encoder_scores"], decoded)
    np.testing.assert_allclose(found, FACTS[name][3], atol=0.003)  # weights were rounded to half precision


YOLO26_POSE = {
    "nc": 80,
    "scale": "n",
    "yaml_file": "yolo26n-pose.yaml",
    "end2end": True,
    "reg_max": 1,
    "kpt_shape": [17, 3],
    "scales": {"n": [0.50, 0.25, 1024], "l": [1.00, 1.00, 512]},
    "backbone": [
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 2, "C3k2", [256, False, 0.25]],
        [-1, 1, "Conv", [256, 3, 2]],
        [-1, 2, "C3k2", [512, False, 0.25]],
        [-1, 1, "Conv", [512, 3, 2]],
        [-1, 2, "C3k2", [512, True]],
        [-1, 1, "Conv", [1024, 3, 2]],
        [-1, 2, "C3k2", [1024, True]],
        [-1, 1, "SPPF", [1024, 5, 3, True]],
        [-1, 2, "C2PSA", [1024]],
    ],
    "head": [
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 6], 1, "Concat", [1]],
        [-1, 2, "C3k2", [512, True]],
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 4], 1, "Concat", [1]],
        [-1, 2, "C3k2", [256, True]],
        [-1, 1, "Conv", [256, 3, 2]],
        [[-1, 13], 1, "Concat", [1]],
        [-1, 2, "C3k2", [512, True]],
        [-1, 1, "Conv", [512, 3, 2]],
        [[-1, 10], 1, "Concat", [1]],
        [-1, 1, "C3k2", [1024, True, 0.5, True]],
        [[16, 19, 22], 1, "Pose26", ["nc", "kpt_shape"]],
    ],
}


@pytest.mark.parametrize("path", golden.golden_files("models/yolo26n-pose.npz"))
def test_a_whole_network_of_yolo26_pose_is_rebuilt_from_its_file(path, tmp_path):
    """As above; the head's flow model, which only training uses, comes with it."""
    recorded = dict(np.load(path))
    network = build_model(path.stem)
    network.load_state_dict(filled_state(network, recorded))
    file = tmp_path / path.with_suffix(".pt").name
    write_as_reference(file, network, YOLO26_POSE, root_class="PoseModel", task="pose", kpt_shape=[17, 3])
    assert b"sightline" not in file.read_bytes()
    loaded = YOLO(str(file))
    assert (loaded.task, loaded.model.kpt_shape, loaded.model.end2end) == ("pose", (17, 3), True)
    expected = {
        name: value.half().float() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    state = loaded.model.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    points = torch.from_numpy(np.random.default_rng(1).standard_normal((64, 2)).astype(np.float32))
    likelihood = loaded.model.model[-1].flow_model.log_prob(points)
    np.testing.assert_allclose(likelihood.detach(), recorded["flow/log_prob"], atol=0.01)
    image = torch.from_numpy(np.random.default_rng(0).random((2, 3, 128, 160)).astype(np.float32))
    loaded.model.use_end2end(False)
    with torch.no_grad():
        decoded = loaded.model.eval()(image)[0][..., ::4].numpy()
    found, wanted = (np.split(each, [4, 84], axis=1) for each in (decoded, recorded["eval/one2many/decoded"]))
    for name, own, theirs, atol in zip(("boxes", "scores", "keypoints"), found, wanted, (0.5, 0.02, 0.5), strict=True):
        np.testing.assert_allclose(own, theirs, atol=atol, rtol=0, err_msg=name)
