"""The moving average after four updates, its decay, and the early-stopping trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from golden import golden
from sightline.callbacks.early_stop import EarlyStopping
from sightline.train.ema import ModelEMA

COUNTERS = "ema/integer_buffers"
golden.register_cases(COUNTERS)


def state(data, prefix: str) -> dict[str, torch.Tensor]:
    return {str(name): torch.from_numpy(data[f"{prefix}.{name}"].copy()) for name in data["names"]}


def toy(entries: dict[str, torch.Tensor]) -> nn.Module:
    """A network with exactly these entries in its state dict."""
    root = nn.Module()
    for key, value in entries.items():
        *parents, name = key.split(".")
        module = root
        for parent in parents:
            if parent not in dict(module.named_children()):
                module.add_module(parent, nn.Module())
            module = module.get_submodule(parent)
        if value.is_floating_point() and "running" not in name:
            module.register_parameter(name, nn.Parameter(value.clone()))
        else:
            module.register_buffer(name, value.clone())
    return root


@pytest.mark.parametrize("path", golden.golden_files("training/ema.npz"))
def test_values(path):
    data = np.load(path)
    model = toy(state(data, "start"))
    ema = ModelEMA(model)
    steps = sum(key.startswith("model") and key.endswith(str(data["names"][0])) for key in data.files)
    assert steps
    counters_equal = True
    for step in range(1, steps + 1):
        model.load_state_dict(state(data, f"model{step}"))
        ema.update(model)
        ours = ema.ema.state_dict()
        for name, recorded in state(data, f"ema{step}").items():
            if recorded.is_floating_point():
                difference = (ours[name] - recorded).abs().max() / recorded.abs().max()
                assert difference < 1e-5, (name, step)
            else:
                counters_equal &= bool((ours[name] == recorded).all())
    assert ema.updates == steps
    golden.same_or_deviation(COUNTERS, counters_equal)


@pytest.mark.parametrize("path", golden.golden_files("training/ema.npz"))
def test_decay(path):
    data = np.load(path)
    ema = ModelEMA(nn.Linear(1, 1))
    ours = [ema.decay(int(updates)) for updates in data["updates"]]
    np.testing.assert_allclose(ours, data["decay64"], rtol=1e-9)


@pytest.mark.parametrize("path", golden.golden_files("training/ema.npz"))
def test_early_stopping(path):
    data = np.load(path)
    stopper = EarlyStopping(int(data["stop_patience"]))
    for epoch, (fitness, recorded) in enumerate(zip(data["stop_fitness64"], data["stop_trace"], strict=True), start=1):
        stop = stopper(epoch, float(fitness))
        assert [stop, stopper.possible_stop, stopper.best_epoch] == recorded.tolist(), epoch
