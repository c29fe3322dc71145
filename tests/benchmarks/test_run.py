"""Every benchmark runs on our side alone and ends with its table. What the numbers are is no test's business."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from golden.golden import shared_data

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SMALL = ["--data={data}", "--imgsz=64", "--batch=4"]
CASES = {
    "import_time.py": (["--rounds=1"], "command line help"),
    "loader.py": ([*SMALL, "--epochs=1", "--rounds=1"], "samples/s/core"),
    "long_run.py": (
        ["--data={data}", "--imgsz=64", "--batch=4", "--epochs=2", "--faults=1:kill 2:input", "--out={folder}"],
        "ours hit: 2 epochs in 2 processes",
    ),
    "lr_find.py": (
        ["--data={data}", "--imgsz=64", "--batch=8", "--epochs=1", "--seeds=0", "--optimizers=SGD", "--out={folder}"],
        "suggestion by seed",
    ),
    "loss_share.py": (["--model=yolo26n.yaml", "--imgsz=64", "--steps=1"], "% of a step (median of 1"),
    "overhead.py": ([*SMALL, "--epochs=2", "--rounds=1"], "the overhead is"),
    "ranks.py": ([*SMALL, "--steps=2", "--fraction=1", "--warm=0"], "largest relative deviation"),
    "rare_classes.py": ([*SMALL, "--epochs=1", "--seeds=0", "--out={folder}"], "recall at confidence 0.25"),
    "train_accuracy.py": ([*SMALL, "--epochs=1", "--out={folder}", "--track-nms"], "mAP50-95 (best_epoch_by_nms)"),
    "zoo.py": (
        ["--bccd={data}", "--sets=bccd", "--seeds=0", "--only=empty label", "--base-epochs=1", "--out={folder}"],
        "| empty label files | 1/1 | `labels_missing` (0 of 18) |",
    ),
    "verdicts.py": (
        ["--data={data}", "--imgsz=64", "--epochs=1", "--repeats=4", "--runs=2", "--out={folder}"],
        "base against itself: ",
    ),
    "train_throughput.py": ([*SMALL, "--epochs=2", "--rounds=1", "--fraction=0.5", "--set=mosaic=0.0"], "img/s"),
}
# Where a row is no side.
LAST_ROW = {
    "zoo.py": "1 of 1 runs judged rightly",
    "rare_classes.py": ("red", "blue"),
    "loss_share.py": "loss",
    "lr_find.py": "tiny, SGD",
    "verdicts.py": "thirtieth",
}


SEVERAL_RUNS = {
    "long_run.py",
    "lr_find.py",
    "overhead.py",
    "ranks.py",
    "rare_classes.py",
    "train_accuracy.py",
    "train_throughput.py",
    "verdicts.py",
    "zoo.py",
}  # each in processes of their own


def test_every_benchmark_has_a_case():
    programs = {path.name for path in BENCHMARKS.glob("*.py")} - {"side_by_side.py", "zoo_cases.py"}
    assert programs == set(CASES)


@pytest.mark.e2e
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SEVERAL_RUNS)) for name in CASES]
)
def test_it_runs(name: str, tiny_data: Path, tmp_path: Path):
    options, ending = CASES[name]
    printed = output(name, [option.format(data=tiny_data, folder=tmp_path / "out") for option in options], tmp_path)
    assert printed.splitlines()[-1].startswith(LAST_ROW.get(name, "ours"))
    assert ending in printed


@pytest.mark.slow
def test_two_ranks_follow_one_on_bccd(tmp_path: Path):
    printed = output("ranks.py", ["--data", str(shared_data("bccd") / "bccd.yaml")], tmp_path)
    found = re.findall(r"ours (\w+)=true: largest relative deviation (\S+) over (\d+) steps", printed)
    assert [(variant, steps) for variant, _, steps in found] == [("sync_bn", "20"), ("freeze_bn", "20")]
    assert all(float(deviation) <= 1e-3 for _, deviation, _ in found), printed


def output(name: str, words: list[str], folder: Path) -> str:
    """What a benchmark prints."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
