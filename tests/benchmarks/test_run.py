"""Every benchmark runs on our side alone and ends with its table. What the numbers are is no test's business."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SMALL = ["--data={data}", "--imgsz=64", "--batch=4"]
CASES = {
    "import_time.py": (["--rounds=1"], "command line help"),
    "loader.py": ([*SMALL, "--epochs=1", "--rounds=1"], "samples/s/core"),
    "ranks.py": ([*SMALL, "--steps=2", "--fraction=1"], "largest relative deviation"),
    "rare_classes.py": ([*SMALL, "--epochs=1", "--seeds=0", "--out={folder}"], "recall at confidence 0.25"),
    "train_accuracy.py": ([*SMALL, "--epochs=1", "--out={folder}", "--track-nms"], "mAP50-95 (best_epoch_by_nms)"),
    "train_throughput.py": ([*SMALL, "--epochs=2", "--rounds=1"], "img/s"),
}
LAST_ROW = {"rare_classes.py": ("red", "blue")}  # a row a class instead of one a side


def test_every_benchmark_has_a_case():
    programs = {path.name for path in BENCHMARKS.glob("*.py")} - {"side_by_side.py"}
    assert programs == set(CASES)


@pytest.mark.e2e
@pytest.mark.parametrize("name", CASES)
def test_it_runs(name: str, tiny_data: Path, tmp_path: Path):
    options, ending = CASES[name]
    words = [option.format(data=tiny_data, folder=tmp_path / "out") for option in options]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(LAST_ROW.get(name, "ours"))
    assert ending in done.stdout
