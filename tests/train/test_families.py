"""What makes a run customisable and stable, with the networks that the other tests here do not train (those: yolo26n).

A new network is a row of `FAMILIES`. Each test stands for features that have tests of their own.
"""

from __future__ import annotations

import math
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from models.small_rtdetr import HGNET_FILE
from sightline import YOLO
from sightline.callbacks.base import Callback
from sightline.doctor.replay import replay
from sightline.errors import Interrupted
from sightline.losses.detect import v8DetectionLoss
from sightline.losses.pose import PoseLoss26, v8PoseLoss
from sightline.losses.rtdetr import RTDETRDetectionLoss
from sightline.models.build import build_model
from sightline.tasks import get_task
from train.test_trainer import make, same, weights

LOSS_SETTINGS: dict[str, Any] = {"class_weights": [1.0, 2.0], "focal_gamma": 1.5, "label_smoothing": 0.1}


@dataclass(frozen=True)
class Family:
    """A network and what of it differs from others.

    Attributes:
        model: its description.
        task: the row of tasks.py whose trainer it needs.
        backbone: layers of its backbone.
        loss: what a user's own loss is derived from.
        attention: words that the start of a run says of it.
        found: what a prediction has, beside its picture.
        loss_settings: of those that its loss reads.
        falls: what is left of its loss after fifteen steps on one batch.
        slow: in `make test-slow` only.
    """

    model: str
    task: str
    backbone: int
    loss: type
    attention: str
    found: tuple[str, ...] = ("boxes",)
    loss_settings: Mapping[str, Any] = field(default_factory=LOSS_SETTINGS.copy)
    falls: float = 0.5
    slow: bool = False


FAMILIES = {
    "yolo12": Family("yolo12n.yaml", "detect", 9, v8DetectionLoss, "8 attention layers"),
    "yolo26-pose": Family("yolo26n-pose.yaml", "pose", 11, PoseLoss26, "2 attention layers", ("boxes", "keypoints")),
    "yolo11-pose": Family(
        "yolo11n-pose.yaml", "pose", 11, v8PoseLoss, "1 attention layer", ("boxes", "keypoints"), slow=True
    ),
    "rtdetr": Family(
        str(HGNET_FILE),
        "rtdetr",
        6,
        RTDETRDetectionLoss,
        "3 attention layers",
        loss_settings={"class_weights": [1.0, 2.0], "focal_gamma": 1.5},
        falls=0.93,
    ),
}
ROWS = [pytest.param(name, marks=[pytest.mark.slow] * row.slow) for name, row in FAMILIES.items()]


@pytest.fixture(params=ROWS)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set, two opposite corners of each box labelled as keypoints; a detector leaves those alone."""
    root = tmp_path_factory.mktemp("families") / "data"
    shutil.copytree(tiny_data.parent, root, ignore=shutil.ignore_patterns("*.cache*"))
    for file in (root / "labels").rglob("*.txt"):
        rows = [[float(word) for word in row.split()] for row in file.read_text().splitlines()]
        for row in rows:
            _, x, y, w, h = row
            row += [x - w / 2, y - h / 2, 2, x + w / 2, y + h / 2, 1]
        file.write_text("\n".join(" ".join(map(str, row)) for row in rows))
    path = root / "tiny.yaml"
    path.write_text(f"{tiny_data.read_text()}kpt_shape: [2, 3]\nflip_idx: [1, 0]\n")
    return path


def trainer_of(family: Family, data: Path, folder: Path, **settings: Any) -> Any:
    return make(data, folder, get_task(family.task).load("trainer"), model=family.model, **settings)


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def test_it_trains_and_is_used(family: Family, data: Path, tmp_path: Path):
    trainer = trainer_of(family, data, tmp_path, epochs=1)
    trainer.train()
    losses = [value for name, values in trainer.history.items() if name.startswith("train/") for value in values]
    assert len(losses) == len(trainer.loss_names)
    assert all(math.isfinite(value) for value in losses)
    assert family.attention in trainer.in_force["attention_kernel"]
    model = YOLO(trainer.best)
    assert Path(model.yaml["yaml_file"]).name == Path(family.model).name
    assert model.task == family.task
    assert model.names == {0: "red", 1: "blue"}
    (result,) = model.predict(torch.zeros(1, 3, 64, 96), imgsz=[64, 96], conf=0.0, verbose=False, device="cpu")
    assert result.boxes.data.shape[1] == 6
    assert all(len(getattr(result, part)) == len(result.boxes) > 0 for part in family.found)
    found = model.val(data=str(data), imgsz=64, batch=4, workers=0, plots=False, verbose=False, device="cpu")
    wanted = {name: value for name, value in trainer.metrics.items() if name.startswith("metrics/")}
    assert {name: found.results_dict[name] for name in wanted} == pytest.approx(wanted, abs=1e-4)


def test_it_learns_a_batch(family: Family):
    """The same two images again and again: what it is wrong about has to shrink to a part."""
    torch.manual_seed(0)
    shape = {"kpt_shape": (2, 3)} if "keypoints" in family.found else {}
    network = build_model(family.model, nc=2, **shape).train()
    batch = {
        "img": torch.rand(4, 3, 96, 96),
        "batch_idx": torch.arange(4.0),
        "cls": torch.tensor([[0.0], [1.0], [0.0], [1.0]]),
        "bboxes": torch.tensor(
            [[0.3, 0.3, 0.4, 0.4], [0.6, 0.5, 0.6, 0.5], [0.5, 0.5, 0.3, 0.7], [0.4, 0.6, 0.5, 0.4]]
        ),
    }
    batch["keypoints"] = torch.cat([batch["bboxes"][:, None, :2].repeat(1, 2, 1), torch.full((4, 2, 1), 2.0)], -1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        loss, _ = network(batch)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        losses.append(float(loss.detach().sum()))
    assert all(math.isfinite(value) for value in losses)
    assert losses[-1] < family.falls * losses[0]


def test_settings_of_parts_and_losses_and_formats(family: Family, data: Path, tmp_path: Path):
    layers = family.backbone

    class Own(family.loss):  # type: ignore[misc, name-defined]
        made: ClassVar[list[Any]] = []

        def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(model, *args, **kwargs)
            Own.made.append(self)

    trainer = trainer_of(
        family, data, tmp_path, epochs=2, freeze="backbone", unfreeze_epoch=1, backbone_lr_ratio=0.1,
        clip_grad_value=0.5, ema=False, fp16_skip_layers=["6"], amp="bf16", multi_scale=0.5, val=False,
        warmup_epochs=0, nbs=4, optimizer="SGD", loss=Own, box=4.0, loss_schedule=[{"until": 1, "box": 2.0}, {}],
        **family.loss_settings,
    )  # fmt: skip
    gains: set[float] = set()
    trainer.add_callback("on_train_batch_end", lambda t: gains.add(t.network.args.box))
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
    assert {"freeze", "unfreeze_epoch", "backbone_lr_ratio", "fp16_skip_layers", "loss"} <= set(trainer.in_force)
    assert Own.made
    assert gains == {8.0, 4.0}
    assert all(value.isfinite().all() for value in thawed.values() if value.is_floating_point())


@pytest.mark.slow
def test_group_norm_goes_into_its_checkpoint(family: Family, data: Path, tmp_path: Path):
    trainer = trainer_of(family, data, tmp_path, epochs=1, norm="gn")
    trainer.train()
    model = YOLO(trainer.best).model
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert any(isinstance(module, nn.GroupNorm) for module in model.modules())


@pytest.mark.slow
def test_stopped_and_gone_on_with_it_ends_the_same(family: Family, data: Path, tmp_path: Path):
    run: dict[str, Any] = {"batch": 2, "nbs": 4, "epochs": 1, "warmup_epochs": 0.5, "val": False}
    whole = trainer_of(family, data, tmp_path / "whole", **run)
    whole.train()
    stopped = trainer_of(family, data, tmp_path / "stopped", **run)

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


def test_a_bad_step_moves_nothing_and_is_replayed(
    family: Family, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    trainer = trainer_of(family, data, tmp_path, epochs=1, nbs=4, val=False)
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
    (dump,) = (trainer.save_dir / "dumps").iterdir()
    again = replay(dump)
    assert again.passes[0].finite
    assert len(again.passes[0].items) == len(trainer.loss_names)
    assert "callback" in again.cause


@pytest.mark.slow
def test_a_spoiled_weight_is_put_back(family: Family, data: Path, tmp_path: Path):
    trainer = trainer_of(family, data, tmp_path, epochs=4, nbs=4, optimizer="SGD", lr0=0.001, warmup_epochs=0)

    def spoil(trainer: Any) -> None:
        if (trainer.epoch, trainer.batch_index) == (1, 0):
            with torch.no_grad():
                next(iter(trainer.network.parameters())).fill_(math.nan)

    trainer.add_callback("on_train_batch_end", spoil)
    trainer.train()
    assert trainer.guard.rollbacks == 1
    assert all(value.isfinite().all() for value in weights(trainer.last).values() if value.is_floating_point())
    assert all(math.isfinite(value) for value in trainer.metrics.values())


@pytest.mark.slow
def test_a_batch_in_pieces(family: Family, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where memory runs out for more than two images at once."""
    trainer = trainer_of(family, data, tmp_path, epochs=1, val=False)
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
def test_a_dry_run_leaves_nothing(family: Family, data: Path, tmp_path: Path):
    trainer = trainer_of(family, data, tmp_path / "runs", dry_run=True)
    trainer.train()
    assert trainer.dry_run_report is not None
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_two_processes_with_synchronised_norms(family: Family, data: Path, tmp_path: Path):
    trainer = trainer_of(family, data, tmp_path, epochs=1, nproc=2, sync_bn=True)
    trainer.train()
    assert trainer.best.is_file()
    assert all(value.isfinite().all() for value in weights(trainer.best).values() if value.is_floating_point())


class NoNoise(Callback):
    """No denoising queries, which each process draws for itself."""

    def on_train_start(self, trainer: Any) -> None:
        trainer.network.model[-1].num_denoising = 0


class KeepGradients(Callback):
    """Writes those of the first step into a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_before_optimizer_step(self, trainer: Any) -> None:
        if trainer.rank == 0 and not self.file.exists():
            found = {name: p.grad.clone() for name, p in trainer.network.named_parameters() if p.grad is not None}
            torch.save(found, self.file)


@pytest.mark.slow
def test_the_step_of_two_processes_is_that_of_one(family: Family, data: Path, tmp_path: Path):
    """Divisors of the losses are counted over both; norms are held, since each process would have its own."""
    found = []
    for count in (1, 2):
        file = tmp_path / f"{count}.pt"
        settings = {"nproc": count, "freeze_bn": True, "clip_grad": 0, "mosaic": 0.0, "val": False}
        trainer = trainer_of(family, data, tmp_path / str(count), epochs=1, nbs=4, warmup_epochs=0, **settings)
        trainer.add_callback(KeepGradients(file))
        trainer.add_callback(NoNoise())
        trainer.train()
        found.append(torch.load(file))
    one, two = found
    assert one.keys() == two.keys()
    largest = max(float(value.abs().max()) for value in one.values())
    assert largest > 0
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4 * largest
