"""What makes a run customisable and stable, with the networks that the other tests here do not train (those: yolo26n).

A new network is a row of `FAMILIES`. Each test stands for features that have tests of their own.
"""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sightline import YOLO
from sightline.errors import Interrupted
from sightline.models.build import build_model
from train.test_trainer import make, same, weights

FAMILIES = {  # description → (layers of its backbone, words that the start of a run says of it)
    "yolo12n.yaml": (9, "8 attention layers"),
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def test_it_trains_and_is_used(family: str, tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, model=family, epochs=1)
    trainer.train()
    losses = [value for name in trainer.loss_names for value in trainer.history[f"train/{name}"]]
    assert len(losses) == len(trainer.loss_names)
    assert all(math.isfinite(value) for value in losses)
    assert FAMILIES[family][1] in trainer.in_force["attention_kernel"]
    model = YOLO(trainer.best)
    assert model.yaml["yaml_file"] == family
    assert model.names == {0: "red", 1: "blue"}
    (result,) = model.predict(torch.zeros(1, 3, 64, 96), imgsz=[64, 96], conf=0.0, verbose=False, device="cpu")
    assert result.boxes.data.shape[1] == 6


def test_it_learns_a_batch(family: str):
    """The same two images again and again: what it is wrong about has to shrink to a part."""
    torch.manual_seed(0)
    network = build_model(family, nc=2).train()
    batch = {
        "img": torch.rand(4, 3, 96, 96),
        "batch_idx": torch.arange(4.0),
        "cls": torch.tensor([[0.0], [1.0], [0.0], [1.0]]),
        "bboxes": torch.tensor(
            [[0.3, 0.3, 0.4, 0.4], [0.6, 0.5, 0.6, 0.5], [0.5, 0.5, 0.3, 0.7], [0.4, 0.6, 0.5, 0.4]]
        ),
    }
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        loss, _ = network(batch)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        losses.append(float(loss.detach().sum()))
    assert all(math.isfinite(value) for value in losses)
    assert losses[-1] < 0.5 * losses[0]


def test_settings_of_parts_and_losses_and_formats(family: str, tiny_data: Path, tmp_path: Path):
    layers = FAMILIES[family][0]
    trainer = make(
        tiny_data, tmp_path, model=family, epochs=2, freeze="backbone", unfreeze_epoch=1, backbone_lr_ratio=0.1,
        clip_grad_value=0.5, class_weights=[1.0, 2.0], focal_gamma=1.5, label_smoothing=0.1, ema=False,
        fp16_skip_layers=["6"], amp="bf16", multi_scale=0.5, val=False, warmup_epochs=0, nbs=4,
        optimizer="SGD",
    )  # fmt: skip
    seen: list[dict[str, torch.Tensor]] = []
    for event in ("on_train_start", "on_train_epoch_end"):
        trainer.add_callback(event, lambda t: seen.append(values(t.network)))
    trainer.train()
    start, frozen, thawed = seen
    assert len(trainer.network.yaml["backbone"]) == layers
    names = [name for name, _ in trainer.network.named_parameters()]
    backbone = {name for name in names if int(name.split(".")[1]) < layers}
    first = {name for name in names if not torch.equal(start[name], frozen[name])}
    assert first
    assert not first & backbone
    assert backbone & {name for name in names if not torch.equal(frozen[name], thawed[name])}
    rates = {
        int(name.split(".")[1]) < layers: group["initial_lr"]
        for group in trainer.optimizer.param_groups
        for name, parameter in trainer.network.named_parameters()
        if any(parameter is each for each in group["params"]) and group["param_group"] == "weight"
    }
    assert rates[True] == pytest.approx(0.1 * rates[False])
    assert {"freeze", "unfreeze_epoch", "backbone_lr_ratio", "fp16_skip_layers"} <= set(trainer.in_force)
    assert all(value.isfinite().all() for value in thawed.values() if value.is_floating_point())


@pytest.mark.slow
def test_group_norm_goes_into_its_checkpoint(family: str, tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, model=family, epochs=1, norm="gn")
    trainer.train()
    model = YOLO(trainer.best).model
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert any(isinstance(module, nn.GroupNorm) for module in model.modules())


@pytest.mark.slow
def test_stopped_and_gone_on_with_it_ends_the_same(family: str, tiny_data: Path, tmp_path: Path):
    run: dict[str, Any] = {"model": family, "batch": 2, "nbs": 4, "epochs": 1, "warmup_epochs": 0.5, "val": False}
    whole = make(tiny_data, tmp_path / "whole", **run)
    whole.train()
    stopped = make(tiny_data, tmp_path / "stopped", **run)

    def stop(trainer: Any) -> None:
        if trainer.iteration == 2:
            trainer.interrupt.asked = signal.SIGTERM

    stopped.add_callback("on_before_backward", stop)
    with pytest.raises(Interrupted):
        stopped.train()
    resumed = type(stopped)(overrides={"resume": str(stopped.last)})
    resumed.train()
    assert same(weights(whole.last), weights(resumed.last))
    assert same(values(whole.network), values(resumed.network))  # those are averages


def test_a_bad_step_moves_nothing(family: str, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    trainer = make(tiny_data, tmp_path, model=family, epochs=1, nbs=4, val=False)
    before: dict[str, torch.Tensor] = {}

    def spoil(trainer: Any) -> None:
        if trainer.batch_index == 1:
            before.update(values(trainer.network))
            trainer.loss = trainer.loss * torch.nan

    trainer.add_callback("on_before_backward", spoil)
    trainer.train()
    assert "1 steps had a loss or gradient that is not finite and were skipped" in caplog.text
    parameters = dict(trainer.network.named_parameters())
    assert before
    assert all(torch.equal(before[name], value) for name, value in parameters.items())


@pytest.mark.slow
def test_a_batch_in_pieces(family: str, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where memory runs out for more than two images at once."""
    trainer = make(tiny_data, tmp_path, model=family, epochs=1, val=False)
    sizes: list[int] = []
    forward = type(trainer)._forward

    def small(self: Any, batch: dict[str, Any]) -> Any:
        if len(batch["img"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(batch["img"]))
        return forward(self, batch)

    monkeypatch.setattr(type(trainer), "_forward", small)
    trainer.train()
    assert set(sizes) == {2}
    assert trainer.in_force["micro-batches"].startswith("at most 2 images")


@pytest.mark.slow
def test_a_dry_run_leaves_nothing(family: str, tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path / "runs", model=family, dry_run=True)
    trainer.train()
    assert trainer.dry_run_report is not None
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_two_processes_with_synchronised_norms(family: str, tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, model=family, epochs=1, nproc=2, sync_bn=True)
    trainer.train()
    assert trainer.best.is_file()
    assert all(value.isfinite().all() for value in weights(trainer.best).values() if value.is_floating_point())
