"""The command, from Python and from the shell: folder, picture, numbers, and a network that stays as it is."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline import YOLO
from sightline.cli.main import main
from sightline.train import range_test


def test_from_the_command_line(
    tiny_data: Path,
    tiny_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    words = [
        f"model={tiny_model}",
        f"data={tiny_data}",
        "imgsz=64",
        "batch=4",
        "device=cpu",
        "lr_find_steps=20",
        "lr0=0.5",
    ]
    assert main(["lr-find", *words]) == 0
    printed = capsys.readouterr()
    assert "lr0=0.5 has no effect: it is what lr-find looks for" in printed.err
    assert "picture and numbers: " in printed.out
    folder = tmp_path / "runs" / "detect" / "lr-find"
    assert sorted(file.name for file in folder.iterdir()) == ["lr_find.json", "lr_find.png"]
    numbers = json.loads((folder / "lr_find.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(numbers["lr"], np.geomspace(1e-6, 1, 20)[: len(numbers["lr"])])
    assert numbers["optimizer"] == "MuSGD"


def test_the_network_stays_as_it_is(tiny_data: Path, tiny_model: str, tmp_path: Path):
    model = YOLO(tiny_model)
    weights = {name: value.clone() for name, value in model.model.state_dict().items()}
    finding = model.lr_find(
        data=str(tiny_data), imgsz=64, batch=4, device="cpu", lr_find_steps=20, lr_find_max=1e-3, project=str(tmp_path)
    )
    assert finding.save_dir == tmp_path / "lr-find"
    assert finding.lr0 == finding.test.reading.suggestion
    assert all(torch.equal(value, weights[name]) for name, value in model.model.state_dict().items())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=yolo26n.yaml"], "lr-find needs data="),
        (["resume=a.pt"], "lr-find is for a run that is to begin: leave resume out"),
    ],
)
def test_what_is_missing_or_too_much(words: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["lr-find", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_test_that_cannot_be_made_leaves_no_folder(
    tiny_data: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = [f"model={tiny_model}", f"data={tiny_data}", "imgsz=64", "batch=4", "nproc=2", f"project={tmp_path}"]
    assert main(["lr-find", *words, "device=cpu"]) == 2
    assert "but 2 are to train" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_said_and_leaves_nothing(
    number: signal.Signals,
    tiny_data: Path,
    tiny_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def interrupted(trainer: object) -> None:
        assert (tmp_path / "runs" / "lr-find").is_dir()
        assert list(temporary.iterdir())
        os.kill(os.getpid(), number)

    monkeypatch.setattr(range_test, "_steps", interrupted)
    words = [f"model={tiny_model}", f"data={tiny_data}", "imgsz=64", "batch=4", f"project={tmp_path / 'runs'}"]
    if number == signal.SIGTERM:
        with pytest.raises(SystemExit, match="143"):
            main(["lr-find", *words, "device=cpu"])
    else:
        assert main(["lr-find", *words, "device=cpu"]) == 130
    assert "lr-find was interrupted: nothing is kept" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [temporary]
    assert not list(temporary.iterdir())
