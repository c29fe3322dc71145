"""Real runs: one study from Python and one from the command line, one that is killed, and workers of which one dies."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import sightline
from sightline import YOLO
from sightline.cli.main import main
from sightline.config.load import make_settings
from sightline.errors import MissingExtraError, UsageError
from sightline.tune import request, results
from sightline.tune.ledger import Ledger
from sightline.tune.plan import Plan
from sightline.tune.trial import COMPLETE, FAILED

SMALL = {"imgsz": 64, "batch": 4, "epochs": 1, "close_mosaic": 0, "device": "cpu", "workers": 0}
SPACE = "lr0: {factor: 10}\nmosaic: {low: 0, high: 1}\n"


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "plot_history", lambda *_, **__: None)
    monkeypatch.setattr(results, "plot_importance", lambda *_, **__: None)
    Path("space.yaml").write_text(SPACE)
    return "space.yaml"


def words(**settings: Any) -> list[str]:
    return [f"{name}={value}" for name, value in settings.items()]


def test_from_python_with_the_old_names(
    space: str, tiny_data: Path, tiny_model: str, capsys: pytest.CaptureFixture[str]
):
    model = YOLO(tiny_model)
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    result = model.tune(data=str(tiny_data), iterations=2, use_ray=False, space=space, box=6.0, **SMALL)
    assert "iterations=2 is an older name: trials=2 says the same" in capsys.readouterr().out
    assert result.folder == Path("runs/detect/tune").resolve()
    assert [row.state for row in result.rows] == [COMPLETE, COMPLETE]
    for row in result.rows:
        folder = result.folder / row.folder
        args = yaml.safe_load((folder / "args.yaml").read_text())
        assert {name: args[name] for name in row.values} == pytest.approx(dict(row.values))
        assert (args["box"], args["optimizer"], args["plots"], args["loggers"]) == (6.0, "MuSGD", False, [])
        assert (folder / "results.csv").is_file()
        assert (folder / "weights" / "best.pt").is_file()
    assert all(value.equal(before[name]) for name, value in model.model.state_dict().items())
    assert result.best_weights is not None
    assert YOLO(result.best_weights).model is not None


def test_from_the_command_line_and_the_best_trains(
    space: str, tiny_data: Path, tiny_model: str, capsys: pytest.CaptureFixture[str]
):
    asked = words(model=tiny_model, data=tiny_data, trials=2, space=space, method="evolve", name="mine", **SMALL)
    assert main(["tune", *asked]) == 0
    assert "2 trials: 2 complete" in capsys.readouterr().out
    best = "runs/detect/mine/best.yaml"
    assert "lr0" in yaml.safe_load(Path(best).read_text())
    assert main(["train", f"cfg={best}", "plots=False", "loggers=[]", "name=longer"]) == 0
    ran = yaml.safe_load(Path("runs/detect/longer/args.yaml").read_text())
    found = make_settings("train", cfg=best)
    assert (ran["lr0"], ran["mosaic"], ran["data"]) == (found.lr0, found.mosaic, str(tiny_data))

    assert main(["tune", "resume=runs/detect/mine", "trials=3"]) == 0
    assert "2 of 3 trials are there already" in capsys.readouterr().out
    assert main(["tune", *asked]) == 0  # the same once more is a study of its own
    assert Path("runs/detect/mine-2/study.db").is_file()


def test_a_trial_that_fails_is_in_the_table_with_its_reason(space: str, tiny_data: Path, tiny_model: str):
    """A real error in the middle of a real run; the trial after it is not touched."""
    calls = []

    def on_train_start(trainer: Any) -> None:
        calls.append(trainer)
        if len(calls) == 1:
            raise MemoryError("DefaultCPUAllocator: not enough memory")

    result = YOLO(tiny_model).tune(
        data=str(tiny_data), trials=2, space=space, callbacks=[on_train_start], verbose=False, **SMALL
    )
    assert [row.state for row in result.rows] == [FAILED, COMPLETE]
    assert result.rows[0].reason == "MemoryError: DefaultCPUAllocator: not enough memory"
    assert math.isnan(result.rows[0].fitness)


def test_a_run_that_is_behind_ends_in_order(space: str, tiny_data: Path, tiny_model: str, monkeypatch: Any):
    monkeypatch.setattr(Ledger, "report", lambda self, number, epoch, fitness: epoch >= 1)
    small = {**SMALL, "epochs": 4}
    result = YOLO(tiny_model).tune(data=str(tiny_data), trials=1, space=space, **small)
    folder = result.folder / result.rows[0].folder
    assert result.rows[0].state == "pruned"
    assert len((folder / "results.csv").read_text().splitlines()) == 3  # a head, two epochs
    assert (folder / "weights" / "best.pt").is_file()


def test_what_cannot_go_to_other_processes(space: str, tiny_data: Path, tiny_model: str):
    with pytest.raises(UsageError, match=r"parallel=2 runs trials in processes of their own.*not callbacks"):
        YOLO(tiny_model).tune(
            data=str(tiny_data), trials=2, parallel=2, space=space, callbacks=[("on_train_start", print)], **SMALL
        )
    assert not Path("runs").exists()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(request, "find_spec", lambda name: None)
    with pytest.raises(
        MissingExtraError, match=r"engine=optuna needs optuna. Install: pip install 'sightline\[optuna\]'"
    ):
        request.check_extras(None)
    with pytest.raises(MissingExtraError, match=r"sightline\[optuna,ray\]"):
        request.check_extras("ray")


def start(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    root = Path(sightline.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    with open(folder / "log.txt", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "sightline", "tune", *more], cwd=folder, env=environment, stdout=log, stderr=log
        )


def wait_for(what: Any, process: subprocess.Popen[bytes], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [1, 2])
def test_a_killed_study_goes_on_to_the_same_number_of_trials(
    parallel: int, tiny_data: Path, tiny_model: str, tmp_path: Path
):
    (tmp_path / "space.yaml").write_text(SPACE)
    small = {**SMALL, "epochs": 6}
    asked = words(
        model=tiny_model, data=tiny_data, trials=4, space="space.yaml", save_dir="study", pruner="none", **small
    )
    study = tmp_path / "study"
    process = start(tmp_path, *asked, f"parallel={parallel}")
    try:
        # In the middle of a run: the second trial has finished an epoch and not the last.
        second = study / "trial-0001" / "weights" / "last.pt"
        wait_for(second.exists, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait()
    before = Ledger(Plan.load(study)).rows()
    assert len(before) < 4 or any(row.state == "running" for row in before)
    again = start(tmp_path, "resume=study")
    assert again.wait(timeout=300) == 0
    rows = Ledger(Plan.load(study)).rows()
    assert [row.state for row in rows] == [COMPLETE] * 4
    assert [row.epochs for row in rows] == [6] * 4
    assert len({row.folder for row in rows}) == 4
    assert sorted(path.name for path in study.glob("trial-*")) == sorted(row.folder for row in rows)
    for row in rows:
        lines = (study / row.folder / "results.csv").read_text().splitlines()
        assert len(lines) == 7
    assert "that were interrupted go on" in (tmp_path / "log.txt").read_text()


@pytest.mark.slow
def test_the_death_of_a_worker_ends_its_trial_and_not_the_study(tiny_data: Path, tiny_model: str, tmp_path: Path):
    (tmp_path / "space.yaml").write_text(SPACE)
    small = {**SMALL, "epochs": 6}
    asked = words(
        model=tiny_model, data=tiny_data, trials=4, space="space.yaml", save_dir="study", pruner="none", **small
    )
    study = tmp_path / "study"
    process = start(tmp_path, *asked, "parallel=2")
    wait_for((study / "trial-0001" / "weights" / "last.pt").exists, process)
    owners = [
        trial.user_attrs["process"][1]
        for trial in Ledger(Plan.load(study)).study.get_trials()
        if trial.state.name == "RUNNING"
    ]
    os.kill(owners[0], signal.SIGKILL)
    assert process.wait(timeout=300) == 0
    assert "a worker has ended with signal SIGKILL; its trial is begun again" in (tmp_path / "log.txt").read_text()
    rows = Ledger(Plan.load(study)).rows()
    assert [row.state for row in rows] == [COMPLETE] * 4
