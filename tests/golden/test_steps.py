"""Whole optimisation steps: network, loss, detached branch, clipping, groups, decay, BatchNorm and EMA at once."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from golden import golden
from golden.fill import filled_state
from golden.golden import golden_files
from sightline.models.build import build_model
from sightline.train.ema import ModelEMA
from sightline.train.optim import build_optimizer

TOLERANCE = 1e-5  # relative, in float64
GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5}


@pytest.fixture
def _float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def text(values: np.ndarray) -> str:
    return bytes(values).decode()


def setting(config: str, name: str) -> float:
    return float(re.search(rf"\b{name}=([\d.e+-]+)", config).group(1))


def prepared_network(path: Path, epochs: int) -> torch.nn.Module:
    """Filled as recorded, but with fresh class biases and small class weights, so that the loss is not absurd."""
    name = path.stem.removeprefix("steps_")
    statistics = golden.golden_path(f"models/{name}.npz")
    network = build_model(name)
    built = {key: value.clone() for key, value in network.state_dict().items()}
    state = filled_state(network, dict(np.load(statistics)))
    last_class_conv = re.compile(r"cv3\.\d+\.2\.(weight|bias)$")
    for key in state:
        kind = last_class_conv.search(key)
        if kind:
            state[key] = built[key] if kind[1] == "bias" else state[key] * 0.1
    network.load_state_dict(state)
    network.double().train()
    network.args = SimpleNamespace(**GAINS, epochs=epochs)
    return network


def batch_of_step(recorded: dict[str, np.ndarray], step: int) -> dict[str, Any]:
    batch = {name: torch.from_numpy(recorded[f"step{step}/{name}"]).double() for name in ("bboxes", "cls", "batch_idx")}
    return {**batch, "img": torch.from_numpy(recorded[f"step{step}/img_u8"]).double() / 255}


def norms(values: dict[str, torch.Tensor], names: list[str]) -> list[float]:
    return [float(values[name].detach().norm()) for name in names]


def run(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(ours, recorded), the arrays to compare."""
    recorded = dict(np.load(path))
    config, probe = text(recorded["config"]), text(recorded["probe"]).split("\n")
    network = prepared_network(path, int(setting(config, "epochs")))
    optimizer = build_optimizer(
        network, "SGD", lr=setting(config, "lr"), momentum=setting(config, "momentum"), decay=setting(config, "decay")
    )
    ema = ModelEMA(network)
    ours: dict[str, list[Any]] = {}
    for step in range(len(recorded["loss"])):
        loss, items = network(batch_of_step(recorded, step))
        loss.sum().backward()
        parameters = dict(network.named_parameters())
        gradients = {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}
        measured = {"grad_probe_norm": norms(gradients, probe)}
        measured["grad_norm"] = torch.nn.utils.clip_grad_norm_(network.parameters(), setting(config, "clip")).item()
        optimizer.step()
        optimizer.zero_grad()
        ema.update(network)
        state = network.state_dict()
        means = [name for name in state if name.endswith("running_mean")][: recorded["bn_mean_norm"].shape[1]]
        measured["loss"] = loss.detach().tolist()
        measured["items"] = [float(value) for value in items.values()]
        measured["param_norm"] = norms(state, probe)
        measured["ema_norm"] = norms(ema.ema.state_dict(), probe)
        measured["bn_mean_norm"] = norms(state, means)
        for name, value in measured.items():
            ours.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in ours.items()}, recorded


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("path", golden_files("training/steps_*.npz"))
def test_four_steps_are_those_recorded(path: Path):
    ours, recorded = run(path)
    compared = {name for name in recorded if "/" not in name} - {"probe", "config"}
    assert compared == set(ours)
    for name in sorted(compared):
        np.testing.assert_allclose(ours[name], recorded[name], rtol=TOLERANCE, atol=1e-12, err_msg=name)
