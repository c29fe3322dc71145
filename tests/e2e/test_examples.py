"""The scripts in examples/ reach what they are for; with imports that say `ultralytics` they do the same."""

from __future__ import annotations

import csv
import importlib.util
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from models.small_rtdetr import HGNET
from sightline.artifacts.checkpoint import load_checkpoint
from sightline.compat.table import TABLE
from sightline.losses.detect import v8DetectionLoss
from sightline.ops.anchors import encode_distances, make_anchors
from sightline.ops.boxes import xywhn_to_xyxy
from sightline.train.detect import DetectionTrainer
from sightline.validate.detect import DetectionValidator

PROJECT = Path(__file__).resolve().parents[2]
SCRIPTS = (
    "f1_per_class",
    "class_weights",
    "best_by_map50",
    "unfreeze_backbone",
    "backbone_lr",
    "sync_batchnorm",
    "gradient_clipping",
    "rtdetr_backbone_lr",
    "rtdetr_sync_batchnorm",
    "rtdetr_gradient_clipping",
)
# Where a script written for Ultralytics imports the names from that ours take from `sightline`.
OLD_MODULES = {
    "YOLO": "ultralytics",
    "RTDETR": "ultralytics",
    "RTDETRTrainer": "ultralytics.models.rtdetr.train",
    "RANK": "ultralytics.utils",
    "DetectionTrainer": "ultralytics.models.yolo.detect",
    "DetectionModel": "ultralytics.nn.tasks",
    "v8DetectionLoss": "ultralytics.utils.loss",
    "E2ELoss": "ultralytics.utils.loss",
    "unwrap_model": "ultralytics.utils.torch_utils",
}
FAST = {"model": "yolo26n.yaml", "imgsz": 64, "batch": 4, "device": "cpu", "amp": False, "plots": False}
BACKBONE = 11  # layers of yolo26n.yaml


def script(name: str) -> ModuleType:
    """A script of examples/ as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", PROJECT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def twin(text: str) -> str:
    """The same script with the imports of someone who comes from Ultralytics."""

    def lines(found: re.Match[str]) -> str:
        return "\n".join(f"from {OLD_MODULES[name]} import {name}" for name in found.group(1).split(", "))

    changed, count = re.subn(r"^from sightline import (.+)$", lines, text, flags=re.MULTILINE)
    assert count == 1
    assert "import sightline" not in changed
    assert "from sightline" not in changed
    return changed


@pytest.fixture
def run(tiny_data: Path, tmp_path: Path) -> Callable[..., Any]:
    """Call `main` of a script on the tiny data; returns its trainer."""

    def call(main: Callable[..., Any], **settings: Any) -> Any:
        return main(**{"data": str(tiny_data), **FAST, "verbose": False, "project": str(tmp_path), **settings})

    return call


# ------------------------------------------------------------------ what each is for


@pytest.fixture
def _half_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions as no two epochs of training give them: every red object is found, every second blue one."""
    judge = DetectionValidator.update_metrics

    def update(self: DetectionValidator, preds: Any, batch: dict[str, Any]) -> None:
        boxes = xywhn_to_xyxy(batch["bboxes"], tuple(batch["img"].shape[2:]))
        answers = []
        for i in range(len(batch["img"])):
            mine = batch["batch_idx"] == i
            classes = batch["cls"].reshape(-1)[mine]
            found = (classes == 0) | torch.tensor(i % 2 == 0)
            answers.append(
                {"bboxes": boxes[mine][found], "cls": classes[found], "conf": torch.full_like(classes, 0.9)[found]}
            )
        judge(self, answers, batch)

    monkeypatch.setattr(DetectionValidator, "update_metrics", update)


@pytest.mark.slow
@pytest.mark.usefixtures("_half_right")
def test_f1_of_every_class_is_printed_after_every_epoch(run: Any, capsys: pytest.CaptureFixture[str]):
    seen: list[list[float]] = []

    def watch(trainer: Any) -> None:
        box = trainer.validator.metrics.box
        assert trainer.validator.metrics.ap_class_index.tolist() == [0, 1]
        seen.append((2 * box.p * box.r / (box.p + box.r)).tolist())

    run(script("f1_per_class").main, epochs=2, callbacks=[("on_fit_epoch_end", watch)])
    printed = re.findall(r"^epoch (\d):\s+(red|blue) F1 ([\d.]+)$", capsys.readouterr().out, re.MULTILINE)
    expected = [
        (str(i + 1), name, f"{f1:.3f}")
        for i, row in enumerate(seen)
        for name, f1 in zip(("red", "blue"), row, strict=True)
    ]
    assert printed == expected
    assert len(printed) == 6  # two epochs, and best.pt
    assert printed[0][2] == "1.000"
    assert printed[1][2] == "0.667"  # half of them found, none wrong


@pytest.fixture
def rare_blue(tiny_data: Path, tmp_path: Path) -> Path:
    """The tiny data with two blue objects for eight red ones."""
    root = tmp_path / "rare"
    shutil.copytree(tiny_data.parent, root, ignore=shutil.ignore_patterns("*.cache"))
    for file in sorted((root / "labels" / "train").glob("*.txt"))[2:]:
        file.write_text(file.read_text().splitlines()[0])
    return root / tiny_data.name


def one_object(class_: int, nc: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Raw output that says where the one object of an image is, and nothing of its class; and its batch."""
    box = torch.tensor([16.0, 16.0, 48.0, 48.0])
    maps = [torch.zeros(1, 1, 64 // stride, 64 // stride) for stride in (8, 16, 32)]
    points, strides = make_anchors([tuple(each.shape[2:]) for each in maps], [8.0, 16.0, 32.0])
    distances = encode_distances(points, box / strides)  # (A, 4)
    preds = {"boxes": distances.T[None], "scores": torch.zeros(1, nc, len(points)), "feats": maps}
    batch = {
        "batch_idx": torch.zeros(1),
        "cls": torch.full((1, 1), float(class_)),
        "bboxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]]),
    }
    return preds, batch


@pytest.mark.slow
def test_the_rare_class_costs_more(run: Any, rare_blue: Path):
    example = script("class_weights")
    trainer = run(example.main, data=str(rare_blue), epochs=1, val=False)
    assert isinstance(trainer.model, example.WeightedModel)
    for branch in (trainer.model.criterion.one2many, trainer.model.criterion.one2one):
        assert branch.bce.pos_weight.tolist() == [1.0, 4.0]
    plain = v8DetectionLoss(trainer.model)
    for class_, weight in enumerate((1.0, 4.0)):
        preds, batch = one_object(class_, nc=2)
        costs = [loss.loss(preds, batch)[1]["cls_loss"] for loss in (trainer.model.criterion.one2many, plain)]
        # At a score of 0.5 each unit of target costs log 2, and the costs are divided by the sum of the targets.
        assert float(costs[0] - costs[1]) == pytest.approx(trainer.args.cls * math.log(2) * (weight - 1), abs=1e-5)


@pytest.mark.slow
def test_the_best_epoch_is_the_one_with_the_highest_map50(run: Any, monkeypatch: pytest.MonkeyPatch):
    scores = [(0.3, 0.1), (0.6, 0.2), (0.5, 0.3), (0.5, 0.4), (0.5, 0.5)]  # mAP50 falls while mAP50-95 rises

    def validate(self: Any) -> Any:
        map50, map50_95 = scores[self.epoch]
        self.best_fitness = max(map50_95, self.best_fitness or 0.0)
        return {"metrics/mAP50(B)": map50, "metrics/mAP50-95(B)": map50_95}, map50_95

    monkeypatch.setattr(DetectionTrainer, "validate", validate)
    trainer = run(script("best_by_map50").main, epochs=5, patience=2)
    assert load_checkpoint(trainer.best)["epoch"] == 1
    assert trainer.best_fitness == 0.6
    assert trainer.epoch == 3  # two epochs without a higher mAP50


class Snapshots:
    """Weights and statistics of backbone and head at the end of every epoch."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def __call__(self, trainer: Any) -> None:
        self.states.append({name: value.clone() for name, value in trainer.model.state_dict().items()})

    def moved(self, epoch: int, *, backbone: bool) -> tuple[int, int, int, int]:
        """In that epoch, counted from 1: weights that moved, of how many; statistics that moved, of how many."""
        before, after = self.states[epoch - 1 : epoch + 1]
        part = [name for name in after if (int(name.split(".")[1]) < BACKBONE) == backbone]
        running = [name for name in part if "running_" in name]
        weights = [name for name in part if name.endswith((".weight", ".bias"))]
        return (
            sum(not torch.equal(before[name], after[name]) for name in weights),
            len(weights),
            sum(not torch.equal(before[name], after[name]) for name in running),
            len(running),
        )


@pytest.mark.slow
def test_the_backbone_stays_for_five_epochs_and_then_moves(run: Any):
    snapshots = Snapshots()
    events = ("on_train_start", "on_train_epoch_end")
    trainer = run(
        script("unfreeze_backbone").main,
        epochs=7,
        callbacks=[(event, snapshots) for event in events],
    )
    in_optimizer = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert all(id(parameter) in in_optimizer for parameter in trainer.model.parameters())
    for epoch in range(1, 6):
        weights, _, statistics, _ = snapshots.moved(epoch, backbone=True)
        assert (weights, statistics) == (0, 0), f"epoch {epoch}"
        weights, _, statistics, total = snapshots.moved(epoch, backbone=False)
        assert weights > 50
        assert statistics == total
    for epoch in (6, 7):
        weights, total, statistics, total_statistics = snapshots.moved(epoch, backbone=True)
        assert weights > 0.9 * total
        assert statistics == total_statistics
    assert trainer.freeze_layer_names == []


@pytest.mark.parametrize("six", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_backbone_and_head_learn_at_their_own_rates(run: Any, six: bool):
    rates: list[list[float]] = []

    def watch(trainer: Any) -> None:
        rates.append([group["lr"] for group in trainer.optimizer.param_groups])

    trainer = run(
        script("backbone_lr").main,
        six_groups=six,
        epochs=2,
        lr0=0.004,
        lrf=1.0,
        warmup_epochs=1.0,
        weight_decay=0.01,
        nbs=4,
        callbacks=[("on_train_batch_end", watch)],
    )
    groups = trainer.optimizer.param_groups
    head, backbone = (3, 3) if six else (1, 1)
    assert [group["lr"] for group in groups] == pytest.approx([0.004] * head + [0.0004] * backbone)
    assert rates[1] == pytest.approx([0.002] * head + [0.0002] * backbone)  # half of the warm-up

    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    found = [names[id(parameter)] for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(names.values())  # each exactly once
    for i, group in enumerate(groups):
        assert all((int(names[id(p)].split(".")[1]) < BACKBONE) == (i >= head) for p in group["params"])
    if six:
        assert [group["weight_decay"] for group in groups] == pytest.approx([0.01, 0, 0] * 2)
        norms = {f"{name}.weight" for name, m in trainer.model.named_modules() if isinstance(m, nn.BatchNorm2d)}
        for i in (1, 4):
            assert groups[i]["params"]
            assert {names[id(p)] for p in groups[i]["params"]} <= norms
        for i in (0, 3):
            assert not {names[id(p)] for p in groups[i]["params"]} & norms
        assert all(names[id(p)].endswith(".bias") for i in (2, 5) for p in groups[i]["params"])


@pytest.mark.slow
def test_synchronised_batch_norm_in_one_process_is_batch_norm(run: Any):
    trainer = run(script("sync_batchnorm").main, epochs=2)
    plain = run(script("f1_per_class").main, epochs=2)
    # On the CPU torch's own layers have been exchanged for ours, which know gloo.
    norms = sum(type(module).__name__ == "SyncBatchNorm" for module in trainer.model.modules())
    assert norms == sum(isinstance(module, nn.BatchNorm2d) for module in plain.model.modules()) > 50
    assert results(trainer.csv) == results(plain.csv)


def test_gradients_are_clipped_at_the_norm_asked_for(run: Any):
    norms: dict[str, list[float]] = {"before": [], "after": []}

    def norm(when: str) -> Callable[[Any], None]:
        def measure(trainer: Any) -> None:
            gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
            norms[when].append(float(nn.utils.get_total_norm(gradients)))

        return measure

    trainer = run(
        script("gradient_clipping").main,
        epochs=1,
        max_norm=0.5,
        nbs=4,
        val=False,
        callbacks=[("on_before_optimizer_step", norm("before")), ("optimizer_step", norm("after"))],
    )
    assert min(norms["before"]) > 0.5
    assert norms["after"] == pytest.approx([0.5] * len(norms["before"]), rel=1e-3)
    assert trainer.clipped == len(norms["after"]) == 2


RTDETR_VARIANTS = ["rtdetr-l", "rtdetr-x", "rtdetr-resnet50", "rtdetr-resnet101"]


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=pytest.mark.slow) for name in RTDETR_VARIANTS] + ["small"]
)
def test_the_backbone_of_an_rtdetr_learns_at_its_own_rate(run: Any, tmp_path: Path, variant: str):
    model = of_network("rtdetr", tmp_path)["model"] if variant == "small" else f"{variant}.yaml"

    def stop(trainer: Any) -> None:
        trainer.stop_training = True

    trainer = run(
        script("rtdetr_backbone_lr").main,
        model=str(model),
        ratio=0.2,
        epochs=1,
        lr0=1e-3,
        lrf=1.0,
        warmup_epochs=0,
        batch=2,
        val=False,
        callbacks=[("on_train_batch_end", stop)],
    )
    groups = trainer.optimizer.param_groups
    assert [group["lr"] for group in groups] == pytest.approx([1e-3] * 3 + [2e-4] * 3)  # not times another ratio
    assert [group["weight_decay"] > 0 for group in groups] == [True, False, False] * 2
    length = len(trainer.network.yaml["backbone"])
    inside = {id(p) for name, p in trainer.network.named_parameters() if int(name.split(".")[1]) < length}
    assert [{id(p) in inside for p in group["params"]} for group in groups] == [{False}] * 3 + [{True}] * 3
    assert sum(len(group["params"]) for group in groups) == len(list(trainer.network.parameters()))
    assert trainer.args.backbone_lr_ratio is None


AGREEING = """
import sys
import torch
import torch.distributed
from sightline import unwrap_model
from sync_batchnorm import main


def agree(trainer):
    assert torch.distributed.get_world_size() == 2
    values = torch.cat([value.flatten().float() for value in unwrap_model(trainer.model).state_dict().values()])
    both = [torch.empty_like(values) for _ in range(2)]
    torch.distributed.all_gather(both, values)
    assert torch.equal(*both)
    print("agreed", flush=True)


if __name__ == "__main__":
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    numbers = {name: int(words.pop(name)) for name in ("epochs", "imgsz", "batch", "nproc")}
    numbers |= {name: float(words.pop(name)) for name in ("lr0", "warmup_epochs")}
    words |= {"amp": False, "plots": False}
    main(**words, **numbers, callbacks=[("on_train_epoch_end", agree)])
"""


@pytest.mark.slow
@pytest.mark.e2e
def test_two_processes_normalise_as_one(tiny_data: Path, tmp_path: Path):
    script = tmp_path / "agreeing.py"
    script.write_text(AGREEING)
    where = {"PYTHONPATH": os.pathsep.join([str(PROJECT / "examples"), *sys.path])}
    # Weights that hardly move: training in float32 multiplies the last digit, differently on each processor (0123).
    still = {"data": tiny_data, "epochs": 2, "lr0": 1e-6, "warmup_epochs": 0}
    done = start([sys.executable, str(script)], tmp_path, where, nproc=2, name="two", **still)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("agreed") == 4
    done = start([sys.executable, str(PROJECT / "examples/sync_batchnorm.py")], tmp_path, name="one", **still)
    assert done.returncode == 0, done.stderr
    two, one = (results(tmp_path / "runs/detect" / name / "results.csv") for name in ("two", "one"))
    for a, b in zip(two, one, strict=True):
        for column in ("train/box_loss", "train/cls_loss", "train/dfl_loss"):
            assert float(a[column]) == pytest.approx(float(b[column]), rel=1e-3)


# ------------------------------------------------------------------ as files


def results(path: Path) -> list[dict[str, str]]:
    """The rows of a results.csv, without how long they took."""
    rows = list(csv.DictReader(path.open()))
    for row in rows:
        del row["time"]
    return rows


def start(
    command: list[str], folder: Path, variables: dict[str, str] | None = None, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder as a user does."""
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [*command, *(f"{name}={value}" for name, value in {**FAST, **settings}.items())],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", **(variables or {})},
    )


def imported_names(text: str) -> Iterator[tuple[str, str]]:
    for module, names in re.findall(r"^from (\S+) import (.+)$", text, re.MULTILINE):
        for name in names.split(", "):
            yield module, name


def of_network(name: str, folder: Path) -> dict[str, Any]:
    """What a script for RT-DETR trains here."""
    if not name.startswith("rtdetr"):
        return {}
    (folder / "small.yaml").write_text(yaml.safe_dump(HGNET))
    return {"model": folder / "small.yaml"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_script_says_of_itself(name: str):
    path = PROJECT / "examples" / f"{name}.py"
    text, example = path.read_text(), script(name)
    assert f"    python examples/{name}.py data=shapes" in (example.__doc__ or "")
    assert "one line of settings" in (example.__doc__ or "")
    for module, imported in imported_names(twin(text)):
        assert imported in TABLE[module]


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_and_its_ultralytics_twin_are_the_same_run(name: str, tiny_data: Path, tmp_path: Path):
    original = PROJECT / "examples" / f"{name}.py"
    other = tmp_path / "twin.py"
    other.write_text(twin(original.read_text()))
    commands = {
        "sightline": [sys.executable, str(original)],
        "ultralytics": [sys.executable, "-m", "sightline", "run", str(other)],
    }
    tables = []
    for kind, command in commands.items():
        done = start(command, tmp_path / kind, data=tiny_data, epochs=2, name="run", **of_network(name, tmp_path))
        assert done.returncode == 0, done.stderr
        tables.append(results(tmp_path / kind / "runs/detect/run/results.csv"))
    assert len(tables[0]) == 2
    assert tables[0] == tables[1]
