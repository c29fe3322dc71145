"""Two ranks do what one process does: gradients, losses, metrics, resume. Scenarios: two_ranks.py, in one start."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.config.settings import Settings
from sightline.data.sampler import EpochBatches
from sightline.errors import SettingValueError
from sightline.train import distributed

SCRIPT = Path(__file__).with_name("two_ranks.py")
SOURCE = Path(__file__).resolve().parents[2] / "src"


def in_ranks(count: int, *words: object, timeout: int = 400) -> None:
    """Run a script as torchrun does."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def scenarios() -> Any:
    spec = importlib.util.spec_from_file_location("two_ranks", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def empty_on_rank_1(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set without the labels of what rank 1 gets first."""
    root = tmp_path_factory.mktemp("empty") / "data"
    shutil.copytree(tiny_data.parent, root)
    batches = EpochBatches(8, 2, shuffle=True, seed=0, rank=1, world_size=2).batches(0)
    for index in batches[0]:
        (root / "labels" / "train" / f"{index}.txt").write_text("")
    return root / tiny_data.name


@pytest.fixture(scope="module")
def ranks(tiny_data: Path, empty_on_rank_1: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    out = tmp_path_factory.mktemp("ranks")
    in_ranks(2, SCRIPT, tiny_data, empty_on_rank_1, out)
    return [torch.load(out / f"rank{rank}.pt", weights_only=False) for rank in (0, 1)]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frozen BatchNorm", "synchronised BatchNorm", "no objects on rank 1"])
def test_two_ranks_make_the_step_of_one(
    name: str, ranks: list[Any], scenarios: Any, tiny_data: Path, empty_on_rank_1: Path, tmp_path: Path
):
    data = empty_on_rank_1 if "objects" in name else tiny_data
    settings = {k: v for k, v in scenarios.SCENARIOS[name].items() if k != "sync_bn"}
    double = "synchronised" in name
    one = scenarios.run(str(data), tmp_path, scenarios.Double if double else scenarios.Recording, **settings).summary()
    two = ranks[0][name]
    assert len(one["gradients"]) == len(two["gradients"]) == 2
    # In float32 the second step starts from weights that differ in the last digits already.
    tolerances = (1e-9, 1e-9) if double else (1e-5, 1e-3)
    for wanted, found, tolerance in zip(one["gradients"], two["gradients"], tolerances, strict=True):
        assert (wanted - found).abs().max() <= tolerance * wanted.abs().max()
    for loss in (loss for loss in one["history"] if loss.endswith("_loss")):
        assert two["history"][loss] == pytest.approx(one["history"][loss], rel=1e-4, nan_ok=True), loss
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-3, abs=1e-4)
    assert two["paths"] == one["paths"]
    assert two["confusion"].sum() == pytest.approx(one["confusion"].sum())


@pytest.mark.slow
def test_the_ranks_agree(ranks: list[Any]):
    for name, first in ranks[0].items():
        second = ranks[1][name]
        assert same(first["weights"], second["weights"]), name
        assert same(first["ema"], second["ema"]), name
        assert first["metrics"] == second["metrics"], name
        assert repr(first["history"]) == repr(second["history"]), name  # NaN is not equal to itself
        assert torch.equal(first["confusion"], second["confusion"]), name


@pytest.mark.slow
def test_a_bad_batch_on_one_rank_moves_nothing_on_any(ranks: list[Any]):
    for found in ranks:
        run = found["NaN on rank 1"]
        assert [bool(gradient.isfinite().all()) for gradient in run["gradients"]] == [True, False, True, True]
        for state in (run["weights"], run["ema"]):
            assert all(value.isfinite().all() for value in state.values())


@pytest.mark.slow
def test_what_thaws_is_averaged_over_the_ranks(ranks: list[Any]):
    sizes = [len(gradient) for gradient in ranks[0]["thawing"]["gradients"]]
    assert sizes[0] == sizes[1] < sizes[2] == sizes[3]
    for first, second in zip(ranks[0]["thawing"]["gradients"], ranks[1]["thawing"]["gradients"], strict=True):
        assert torch.equal(first, second)


@pytest.mark.slow
def test_one_stopped_within_an_epoch_on_two_ranks_goes_on_as_if_it_had_not_been(ranks: list[Any]):
    for found in ranks:  # BatchNorm's statistics and generators are each rank's own until the end of an epoch
        whole, stopped = found["whole with gradients waiting"], found["stopped by a signal"]
        assert same(whole["weights"], stopped["weights"])
        assert same(whole["ema"], stopped["ema"])
        assert whole["history"] == stopped["history"]


@pytest.mark.slow
def test_a_resumed_run_on_two_ranks_equals_one_that_never_stopped(ranks: list[Any]):
    assert same(ranks[0]["whole"]["weights"], ranks[0]["resumed"]["weights"])
    assert same(ranks[0]["whole"]["ema"], ranks[0]["resumed"]["ema"])
    whole, resumed = ({**run["history"]} for run in (ranks[0]["whole"], ranks[0]["resumed"]))
    assert whole == resumed


# ------------------------------------------------------------------ how many


@pytest.mark.parametrize(
    ("settings", "environment", "expected"),
    [
        ({}, None, 1),
        ({"device": "cpu", "nproc": 2}, None, 2),
        ({"device": "cpu", "nproc": 1}, None, 1),
        ({"device": [0, 1]}, None, 2),
        ({"device": "0,1,2,3"}, None, 4),
        ({"device": "cpu"}, 2, 2),
        ({"device": "cpu", "nproc": 2}, 2, 2),
        ({"device": "0,1"}, 2, 2),
        ({"device": 0}, 1, 1),
    ],
)
def test_how_many_processes(
    settings: dict[str, Any], environment: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
):
    _launched(environment, monkeypatch)
    assert distributed.wanted(Settings(**settings)) == expected


@pytest.mark.parametrize(
    ("settings", "environment", "message"),
    [
        ({"nproc": 2}, None, "device=cpu nproc=2"),
        ({"nproc": 2, "device": 0}, None, "device=0,1"),
        ({"nproc": 2, "device": "mps"}, None, "device=cpu"),
        ({"nproc": 3, "device": [0, 1]}, None, "Leave nproc out"),
        ({"nproc": 2, "device": "cpu", "batch": 5}, None, "batch=4 or batch=6"),
        ({"nproc": 4, "device": "cpu", "batch": 2}, None, "Use batch=4"),
        ({"nproc": 2, "device": "cpu"}, 3, "torchrun --nproc-per-node=2"),
        ({"device": [0, 1]}, 4, "WORLD_SIZE=4"),
        ({"device": 0}, 2, "on one GPU"),
    ],
)
def test_what_does_not_fit_together(
    settings: dict[str, Any], environment: int | None, message: str, monkeypatch: pytest.MonkeyPatch
):
    _launched(environment, monkeypatch)
    with pytest.raises(SettingValueError, match=message):
        distributed.wanted(Settings(**settings))


def _launched(count: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
        if count is not None:
            monkeypatch.setenv(name, str(count if name == "WORLD_SIZE" else 0))
