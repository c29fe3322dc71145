"""MLflow's store, read back with its own client."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from callbacks.loggers.runs import crashed, make, rows
from sightline.callbacks.loggers.mlflow import ALLOW_FILES
from sightline.train.detect import DetectionTrainer

pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN", ALLOW_FILES):
        monkeypatch.delenv(name, raising=False)


def client(store: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv(ALLOW_FILES, "true")
    return MlflowClient(tracking_uri=store.as_uri())


def the_run(reader: Any, experiment: str) -> Any:
    (run,) = reader.search_runs([reader.get_experiment_by_name(experiment).experiment_id])
    return run


def assert_is_the_table(reader: Any, run: Any, folder: Path) -> None:
    for name, values in rows(folder).items():
        points = reader.get_metric_history(run.info.run_id, name.replace("(", "").replace(")", ""))
        assert {point.step: point.value for point in points} == pytest.approx(values, rel=1e-4, abs=1e-6)
        assert len(points) == len(values)


def test_a_run_is_kept_beside_the_run_folders(
    tiny_data: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    trainer = make(tiny_data, tiny_model, tmp_path, loggers=["mlflow"])
    with caplog.at_level("INFO", logger="sightline"):
        trainer.train()
    assert ALLOW_FILES not in os.environ  # said for the moment of opening, not left behind
    store = tmp_path / "mlruns"
    assert f"mlflow ui --backend-store-uri {store.resolve().as_uri()}" in caplog.text
    reader = client(store, monkeypatch)
    run = the_run(reader, str(tmp_path))  # the experiment is the project
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert_is_the_table(reader, run, trainer.save_dir)
    assert run.data.params["imgsz"] == "64"
    assert run.data.params.keys() == trainer.args.to_dict().keys()
    best = trainer.metrics["metrics/mAP50-95(B)"]
    assert run.data.metrics["best/metrics/mAP50-95B"] == pytest.approx(best)
    kept = {file.path for file in reader.list_artifacts(run.info.run_id)}
    assert kept == {"args.yaml", "results.csv", "weights"}
    assert [file.path for file in reader.list_artifacts(run.info.run_id, "weights")] == ["weights/best.pt"]


def test_a_resumed_run_is_the_same_run(
    tiny_data: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "elsewhere").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "cells")
    monkeypatch.setenv("MLFLOW_RUN", "first try")
    last = crashed(tiny_data, tiny_model, tmp_path / "runs", loggers=["mlflow"])
    reader = client(tmp_path / "elsewhere", monkeypatch)
    before = the_run(reader, "cells")
    assert (before.info.run_name, before.info.status) == ("first try", "FAILED")
    trainer = DetectionTrainer(overrides={"resume": str(last)})
    trainer.train()
    after = the_run(reader, "cells")  # one run, still
    assert (after.info.run_id, after.info.status) == (before.info.run_id, "FINISHED")
    assert_is_the_table(reader, after, trainer.save_dir)
    assert not (tmp_path / "runs" / "mlruns").exists()


def test_a_store_that_is_not_there_is_one_line(
    tiny_data: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "a file").write_text("no folder")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "a file" / "below").as_uri())
    monkeypatch.setattr("sightline.callbacks.loggers.base.LAST_SECONDS", 600.0)  # importing MLflow takes its time
    trainer = make(tiny_data, tiny_model, tmp_path / "runs", loggers=["mlflow"], epochs=1)
    trainer.train()
    assert len([message for message in caplog.messages if message.startswith("MLflow: ")]) == 1
    assert list(rows(trainer.save_dir)["train/box_loss"]) == [1]
