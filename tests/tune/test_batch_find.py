"""The command, from Python and from the shell: table, picture, numbers, and a network that stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sightline import YOLO
from sightline.cli.main import main
from sightline.train import batch_test


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_test, "TIMED", 1)
    monkeypatch.setattr(batch_test, "ENOUGH_SECONDS", 0.0)


def test_from_the_command_line(
    tiny_data: Path,
    tiny_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    words = [f"model={tiny_model}", f"data={tiny_data}", "imgsz=64", "batch=4", "device=cpu"]
    assert main(["batch-find", *words, "batch_find_steps=10", "batch_find_max=2"]) == 0
    printed = capsys.readouterr().out
    folder = tmp_path / "runs" / "detect" / "batch-find"
    assert sorted(file.name for file in folder.iterdir()) == ["batch_find.json", "batch_find.png"]
    numbers = json.loads((folder / "batch_find.json").read_text(encoding="utf-8"))
    assert [size["batch"] for size in numbers["sizes"]] == [1, 2]
    assert numbers["now"] == {"batch": 4, "accumulate": 1, "lr": 0.01, "optimizer": "MuSGD"}
    words_recommended = " ".join(f"{name}={value}" for name, value in numbers["recommended"].items())
    assert f"recommended: {words_recommended}" in printed
    assert "gradient noise scale: " in printed


def test_what_it_recommends_can_be_trained_with(tiny_data: Path, tiny_model: str, tmp_path: Path):
    model = YOLO(tiny_model)
    weights = {name: value.clone() for name, value in model.model.state_dict().items()}
    shared = {"data": str(tiny_data), "imgsz": 64, "device": "cpu", "project": str(tmp_path), "epochs": 1}
    found = model.batch_find(batch=4, batch_find_steps=10, batch_find_max=2, **shared)
    assert found.save_dir == tmp_path / "batch-find"
    assert all(torch.equal(value, weights[name]) for name, value in model.model.state_dict().items())
    model.train(**found.settings, **shared, workers=0, plots=False, loggers=[])
    assert model.trainer.args.batch == found.settings["batch"]


def test_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["batch-find", "model=yolo26n.yaml", f"project={tmp_path}"]) == 2
    assert "batch-find needs data=" in capsys.readouterr().err
    assert main(["batch-find", "resume=a.pt"]) == 2
    assert "batch-find is for a run that is to begin: leave resume out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
