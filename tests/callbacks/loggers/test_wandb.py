"""Weights & Biases offline: the file that `wandb sync` would send, read back."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from callbacks.loggers.runs import crashed, rows
from sightline.callbacks.loggers.wandb import _project_name
from sightline.train.detect import DetectionTrainer

pytest.importorskip("wandb", reason="the extra `wandb` is not installed")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def records(file: Path) -> list[Any]:
    """The file is a log of LevelDB behind a header of 7 bytes: blocks of 32 KiB, records in pieces."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, pieces, found = file.read_bytes(), 7, b"", []
    while place < len(data):
        left = 32768 - place % 32768
        if left < 7:  # no room for another head: zeros
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)  # behind a checksum
        pieces += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            found.append(Record.FromString(pieces))
            pieces = b""
    return found


def history(file: Path) -> dict[str, list[tuple[int, float]]]:
    """Name → points (step, value), of numbers."""
    points: dict[str, list[tuple[int, float]]] = {}
    for record in records(file):
        if record.HasField("history"):
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            for name, value in items.items():
                if isinstance(value, float | int):
                    points.setdefault(name, []).append((int(items["epoch"]), value))
    return points


def wait_for_its_end(file: Path) -> None:
    """A run that was stopped leaves its trackers ten seconds; on a busy machine their thread is not done by then."""
    deadline = time.monotonic() + 60
    while not any(record.HasField("exit") for record in records(file)) and time.monotonic() < deadline:
        time.sleep(0.2)


def test_an_offline_run_holds_the_table(
    tiny_data: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WANDB_PROJECT", "cells")
    last = crashed(tiny_data, tiny_model, tmp_path, loggers=["wandb"])
    (first,) = (last.parent.parent / "wandb").glob("offline-run-*/*.wandb")
    wait_for_its_end(first)
    points = history(first)
    assert [step for step, _ in points["train/box_loss"]] == [1, 2, 3]
    table = rows(last.parent.parent)
    for name, values in table.items():
        assert dict(points[name]) == pytest.approx(values, rel=1e-4, abs=1e-6)
    (begun,) = [record.run for record in records(first) if record.HasField("run")][:1]
    assert (begun.project, begun.display_name) == ("cells", "run")
    assert {item.key: item.value_json for item in begun.config.update}["imgsz"] == "64"

    trainer = DetectionTrainer(overrides={"resume": str(last)})
    trainer.train()
    files = set((trainer.save_dir / "wandb").glob("offline-run-*/*.wandb"))
    (second,) = files - {first}
    wait_for_its_end(second)
    assert second.name == first.name == f"run-{begun.run_id}.wandb"  # the same run, in two parts
    assert [step for step, _ in history(second)["train/box_loss"]] == [3, 4]
    codes = [record.exit.exit_code for record in records(second) if record.HasField("exit")]
    assert codes == [0]
    assert [record.exit.exit_code for record in records(first) if record.HasField("exit")] == [1]


def test_names_of_projects_have_no_folders():
    assert _project_name("runs/cells") == "runs-cells"
    assert _project_name("") == "sightline"
    assert _project_name("/data/runs") == "data-runs"
