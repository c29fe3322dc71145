"""A file written by the reference, read without it: its exact weights, what it says of them, and its outputs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from golden import golden
from golden.fill import filled_state
from golden.test_models import LOOSE, STRICT, output_differences
from sightline.artifacts.foreign import read_foreign
from sightline.artifacts.weights_file import read_weights
from sightline.models.build import build_model

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
