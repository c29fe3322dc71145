"""As the README says: train, validate and predict from the command line, in an empty folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import forked

PROJECT = Path(__file__).resolve().parents[2]


def sightline(folder: Path, *words: str) -> str:
    done = forked.run("-m", "sightline", *words, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.e2e
def test_train_val_predict_resume(tiny_data: Path, tmp_path: Path):
    sightline(tmp_path, "train", "model=yolo26n.yaml", f"data={tiny_data}", "imgsz=64", "epochs=2", "batch=4")
    run = tmp_path / "runs/detect/train"
    expected = {
        "args.yaml", "results.csv", "results.png", "labels.jpg", "train_batch0.jpg", "val_batch0_labels.jpg",
        "val_batch0_pred.jpg", "BoxPR_curve.png", "BoxF1_curve.png", "BoxP_curve.png", "BoxR_curve.png",
        "confusion_matrix.png", "confusion_matrix_normalized.png",
    }  # fmt: skip
    assert expected <= {path.name for path in run.iterdir()}

    best = run / "weights/best.pt"
    table = sightline(tmp_path, "val", f"model={best}", f"data={tiny_data}", "imgsz=64")
    assert "mAP50-95" in table
    assert "blue" in table

    text = sightline(tmp_path, "detect", "predict", f"model={best}", f"source={tiny_data.parent / 'images/val'}")
    assert "image 4/4" in text
    assert len(list((tmp_path / "runs/detect/predict").glob("*.png"))) == 4

    text = sightline(tmp_path, "train", f"resume={run / 'weights/last.pt'}", "epochs=3")
    assert "epoch 3/3" in text
    assert len((run / "results.csv").read_text().splitlines()) == 4


@pytest.mark.e2e
def test_the_training_without_a_trainer(tiny_data: Path, tmp_path: Path):
    script = PROJECT / "examples/plain_train.py"
    words = [f"data={tiny_data}", "epochs=1", "imgsz=64", "batch=4"]
    done = forked.run(script, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mAP50-95" in done.stdout
    assert (tmp_path / "plain.pt").exists()


@pytest.mark.slow
@pytest.mark.e2e
def test_the_demo_reaches_its_goal(tmp_path: Path):
    """`make demo`: several minutes on two cores; exit code 1 would mean that the score stayed below 0.60."""
    done = subprocess.run(
        [sys.executable, str(PROJECT / "examples/demo.py")], cwd=tmp_path, text=True, stdout=subprocess.PIPE
    )
    assert done.returncode == 0, done.stdout
