"""The moving average: its arithmetic, what it copies, and that a bad step does not reach it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sightline.errors import SettingValueError
from sightline.train.detect import DetectionTrainer
from sightline.train.ema import ModelEMA, _gated_lerp
from train.test_trainer import make, same, weights


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model.names, model.nc = {0: "a"}, 1
    return model


def disturb(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            else:
                tensor += 1


def test_three_updates_by_hand():
    model = network()
    ema = ModelEMA(model, decay=0.9, tau=2)
    expected = {name: value.double() for name, value in model.state_dict().items()}
    for update in range(1, 4):
        disturb(model, update)
        ema.update(model)
        decay = 0.9 * (1 - math.exp(-update / 2))
        for name, value in model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value
    for name, value in ema.ema.state_dict().items():
        assert (value - expected[name]).abs().max() < 1e-6, name
    assert ema.updates == 3


def test_the_copy_is_a_quiet_float32_network_of_its_own():
    model = network().to(torch.bfloat16)
    ema = ModelEMA(model)
    assert not ema.ema.training
    assert model.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in ema.ema.parameters())
    before = ema.ema[0].weight.clone()
    disturb(model, 1)
    assert torch.equal(ema.ema[0].weight, before)
    ema.update(model)  # types differ
    assert not torch.equal(ema.ema[0].weight, before)


def test_double_precision_stays():
    assert ModelEMA(network().double()).ema[0].weight.dtype == torch.float64


def test_a_step_that_is_not_finite_leaves_it_untouched():
    model = network()
    ema = ModelEMA(model)
    before = {name: value.clone() for name, value in ema.ema.state_dict().items()}
    disturb(model, 1)
    model[0].weight.data.fill_(math.nan)
    ema.update(model, finite=torch.tensor(False))
    assert all(torch.equal(value, before[name]) for name, value in ema.ema.state_dict().items())
    disturb(model, 2)
    ema.update(model, finite=torch.tensor(True))
    assert all(value.isfinite().all() for value in ema.ema.state_dict().values())
    assert not torch.equal(ema.ema[0].weight, before["0.weight"])


@pytest.mark.parametrize("finite", [True, False])
def test_the_way_a_gpu_goes_gives_the_same(finite):
    averages = [torch.randn(3, 2), torch.randn(4), torch.randn(2, dtype=torch.float64), torch.tensor(1.0)]
    values = [torch.randn_like(a) for a in averages]
    expected = [a + 0.25 * (v - a) if finite else a.clone() for a, v in zip(averages, values, strict=True)]
    if not finite:
        values[0][0, 0] = math.nan
    _gated_lerp(averages, values, 0.25, torch.tensor(finite))
    for a, e in zip(averages, expected, strict=True):
        assert torch.allclose(a, e)


def test_wrapped_models_are_unwrapped():
    model = network()
    compiled = nn.Module()
    compiled._orig_mod = model  # the name that torch.compile gives it
    ema = ModelEMA(compiled)
    assert type(ema.ema) is nn.Sequential
    disturb(model, 1)
    ema.update(compiled)
    assert not torch.equal(ema.ema[0].weight, network()[0].weight)


def test_attributes_follow():
    model = network()
    ema = ModelEMA(model)
    model.names, model.nc = {0: "a", 1: "b"}, 2
    ema.update_attr(model)
    assert (ema.ema.names, ema.ema.nc) == ({0: "a", 1: "b"}, 2)


def test_state_goes_around():
    model, ema = network(), ModelEMA(network())
    disturb(model, 1)
    ema.update(model)
    other = ModelEMA(network())
    other.load_state_dict(ema.state_dict())
    assert other.updates == 1
    for a, b in zip(ema.ema.state_dict().values(), other.ema.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_way_a_gpu_goes_is_exact_without_memory():
    averages, values = [torch.randn(50)], [torch.randn(50) * 1e-3]
    _gated_lerp(averages, values, 1.0, torch.tensor(True))
    assert torch.equal(averages[0], values[0])


def test_without_an_average_the_weights_themselves_are_saved(tiny_data: Path, tmp_path: Path):
    seen = []

    def compare(trainer: Any) -> None:
        raw, average = trainer.model.state_dict(), trainer.ema.ema.state_dict()
        seen.append(all(torch.equal(raw[name], average[name]) for name in raw))

    trainer = make(tiny_data, tmp_path, epochs=1, ema=False)
    trainer.add_callback("on_train_batch_end", compare)
    trainer.train()
    assert seen == [True, True]
    assert same(weights(trainer.best), trainer.model.state_dict())
    assert trainer.in_force["ema"].startswith("off")
    again = DetectionTrainer(overrides={"resume": str(trainer.last), "epochs": 2})
    again.train()
    assert same(weights(again.last), again.model.state_dict())
    with pytest.raises(SettingValueError, match=r"ema_decay=0\.9 asks for an average"):
        make(tiny_data, tmp_path / "both", ema=False, ema_decay=0.9).train()
