"""Values are cut before the norm, and the norm that is returned is that of the gradient as it came."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sightline.errors import SettingValueError
from sightline.train.clip import clip_gradients
from sightline.train.detect import DetectionTrainer
from train.test_trainer import make


def parameters(*grads: float) -> list[nn.Parameter]:
    made = [nn.Parameter(torch.zeros(1)) for _ in grads]
    for parameter, grad in zip(made, grads, strict=True):
        parameter.grad = torch.tensor([grad])
    return [*made, nn.Parameter(torch.zeros(1))]  # the last has no gradient, as if frozen


@pytest.mark.parametrize(
    ("norm", "value", "expected"),
    [
        (0, None, [3.0, -4.0]),
        (10, 0, [3.0, -4.0]),
        (1, None, [0.6, -0.8]),
        (0, 2, [2.0, -2.0]),
        (1, 2, [math.sqrt(0.5), -math.sqrt(0.5)]),  # first to (2, −2), then to length 1
    ],
)
def test_values_then_norm(norm: float, value: float | None, expected: list[float]):
    given = parameters(3.0, -4.0)
    assert float(clip_gradients(given, max_norm=norm, max_value=value)) == pytest.approx(5.0)
    assert [float(p.grad) for p in given[:2]] == pytest.approx(expected, rel=1e-5)


def test_cutting_does_not_hide_an_infinite_value():
    assert not clip_gradients(parameters(math.inf, 1.0), max_norm=10, max_value=1).isfinite()


def gradients(trainer: Any) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", ["clip_grad", "clip_grad_norm"])
def test_clipping_is_in_force_at_the_first_step(tiny_data: Path, tmp_path: Path, name: str):
    seen = []
    trainer = make(tiny_data, tmp_path, epochs=1, **{name: 0.5}, clip_grad_value=0.01)
    trainer.add_callback("optimizer_step", lambda t: seen.append((float(t.grad_norm), gradients(t))))
    trainer.train()
    norm, grads = seen[0]
    assert norm > 0.5
    assert float(grads.double().norm()) == pytest.approx(0.5, rel=1e-3)
    assert float(grads.abs().max()) <= 0.01
    assert trainer.args.clip_grad == 0.5
    assert trainer.in_force["clip_grad"] == "norm of the gradient at most 0.5"
    assert trainer.in_force["clip_grad_value"] == "each value at most 0.01"


def test_both_names_at_once_are_refused(tiny_data: Path, tmp_path: Path):
    with pytest.raises(SettingValueError, match="another name of clip_grad, and both are given"):
        make(tiny_data, tmp_path, clip_grad=1, clip_grad_norm=2)


def test_a_step_of_the_users_own_is_said_to_decide(tiny_data: Path, tmp_path: Path):
    class Mine(DetectionTrainer):
        def optimizer_step(self) -> None:
            super().optimizer_step()

    trainer = make(tiny_data, tmp_path, Mine, epochs=1, clip_grad=3)
    trainer.train()
    assert trainer.in_force["clip_grad"] == "left to Mine.optimizer_step"
