"""What a changed setting does to a run that goes on: kept, forked and said, or refused."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sightline import YOLO
from sightline.artifacts.checkpoint import load_checkpoint
from sightline.config.settings import DEFAULTS
from sightline.errors import SettingValueError
from sightline.train import resume, resume_rules
from sightline.train.detect import DetectionTrainer
from train.test_resume import RUN, differences, everything, finish
from train.test_trainer import make


@pytest.fixture(scope="module")
def two_epochs(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of two epochs of two batches, without warm-up."""
    folder = tmp_path_factory.mktemp("two epochs")
    settings = {"optimizer": "SGD", "lr0": 0.01, "lrf": 0.5, "warmup_epochs": 0.0, "val": False, "nbs": 4}
    trainer = make(tiny_data, folder, backbone_lr_ratio=0.1, **settings)
    trainer.train()
    return trainer.save_dir


@pytest.fixture
def last(two_epochs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two_epochs, tmp_path / "run")) / "weights/last.pt"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the rules warn of."""
    found: list[str] = []
    monkeypatch.setattr(resume_rules, "LOGGER", SimpleNamespace(warning=found.append))
    return found


def rates(last: Path, column: str) -> list[float]:
    with (last.parent.parent / "results.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file)]


def line(epoch: int, epochs: int, lrf: float) -> float:
    return 1 - epoch / epochs * (1 - lrf)


def cosine(epoch: int, epochs: int, lrf: float) -> float:
    return lrf + (1 - lrf) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def test_another_lr0_scales_every_group_and_is_said(last: Path, said: list[str]):
    YOLO(str(last)).resume(epochs=4, lr0=0.002, plots=False)
    assert len(said) == 1
    assert "epochs=4 (was 2), lr0=0.002 (was 0.01): allowed, but from here on this is another run" in said[0]
    before, after = [0.01 * line(e, 2, 0.5) for e in (0, 1)], [0.002 * line(e, 4, 0.5) for e in (2, 3)]
    columns = [rates(last, f"lr/pg{group}") for group in range(6)]
    assert [column == pytest.approx(before + after, rel=1e-4) for column in columns].count(True) == 3
    slow = [0.1 * value for value in before + after]  # the backbone keeps its ratio
    assert [column == pytest.approx(slow, rel=1e-4) for column in columns].count(True) == 3


@pytest.mark.parametrize(
    ("shape", "settings"), [(line, {}), pytest.param(cosine, {"cos_lr": True}, marks=pytest.mark.slow)]
)
def test_more_epochs_stretch_the_schedule(shape: Any, settings: dict[str, Any], last: Path):
    trainer = DetectionTrainer(overrides={"resume": str(last), "epochs": 3, **settings})
    trainer.train()
    fast = max(rates(last, f"lr/pg{group}")[2] for group in range(6))
    assert fast == pytest.approx(0.01 * shape(2, 3, 0.5), rel=1e-4)
    assert trainer.args.epochs == 3


def test_what_a_step_is_made_of_follows(last: Path):
    seen: list[dict[str, Any]] = []
    changed = {"momentum": 0.8, "weight_decay": 0.01, "nbs": 8}
    trainer = DetectionTrainer(overrides={"resume": str(last), "epochs": 3, **changed})
    trainer.add_callback("on_train_batch_start", lambda t: seen.append([dict(g) for g in t.optimizer.param_groups]))
    trainer.train()
    assert {group["momentum"] for group in seen[0]} == {0.8}
    assert sorted({group["weight_decay"] for group in seen[0]}) == pytest.approx([0.0, 0.01])
    assert trainer.accumulate == 2


@pytest.mark.slow
def test_what_keeps_the_trajectory_keeps_it(tiny_data: Path, tmp_path: Path, said: list[str]):
    whole = everything(finish(make(tiny_data, tmp_path / "a", **{**RUN, "epochs": 2})))
    cut = make(tiny_data, tmp_path / "b", **{**RUN, "epochs": 2})
    other = {"save_every_steps": 2, "workers": 3, "cache": "ram", "coco_eval": True, "save_period": 1, "watchdog": 0}
    assert other.keys() <= resume_rules.KEEPS
    found = differences(whole, everything(finish(cut, 2, change=other)))
    assert [name for name in found if "metrics/coco" not in name] == []  # columns that were not there before
    assert said == []


@pytest.mark.parametrize("name", ["optimizer", "norm", "single_cls", "lr_groups"])
def test_what_the_state_decides_is_refused(name: str, last: Path):
    value = {"optimizer": "AdamW", "norm": "gn", "single_cls": True, "lr_groups": {"model": 0.5}}[name]
    with pytest.raises(SettingValueError, match=rf"(?s)resume=.*{name}=.* cannot change in a run that goes on"):
        DetectionTrainer(overrides={"resume": str(last), "epochs": 3, name: value})


@pytest.mark.parametrize("model", ["last.pt", "the same", "yolo26s.yaml"])
def test_the_network_is_that_of_the_run(model: str, last: Path, monkeypatch: pytest.MonkeyPatch):
    """args.yaml names what the run began with: from last.pt, "Reproduce" in its report would be another run."""
    warnings: list[str] = []
    monkeypatch.setattr(resume, "LOGGER", SimpleNamespace(warning=warnings.append))
    before = load_checkpoint(last)["args"]["model"]
    given = {"last.pt": str(last), "the same": Path(before).name}.get(model, model)
    trainer = DetectionTrainer(overrides={"resume": str(last), "epochs": 3, "model": given})
    assert (trainer.args.model, trainer.args.origin("model")) == (before, load_checkpoint(last)["origins"]["model"])
    assert len(warnings) == (model == "yolo26s.yaml")
    assert all(f"model={before}" in text and "model=yolo26s.yaml counts for nothing" in text for text in warnings)


def test_the_rules_name_settings_that_exist_and_the_guide_lists_them():
    assert not resume_rules.KEEPS & resume_rules.REFUSED
    assert DEFAULTS.keys() >= (resume_rules.KEEPS | resume_rules.REFUSED)
    guide = (Path(__file__).resolve().parents[2] / "docs/resume.md").read_text()
    assert not [name for name in resume_rules.KEEPS | resume_rules.REFUSED if f"`{name}`" not in guide]
