"""`doctor run`: a folder judged afterwards, with events.jsonl and with results.csv alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.artifacts.events import Events
from sightline.artifacts.tables import ResultsTable
from sightline.doctor.run import examine
from sightline.errors import MissingFileError, SettingValueError


def table(folder: Path, losses: list[float], *, score: float = 0.5) -> None:
    for number, loss in enumerate(losses, 1):
        ResultsTable(folder / "results.csv").append(
            {"epoch": number, "time": number, "train/box_loss": loss, "metrics/mAP50(B)": score,
             "metrics/mAP50-95(B)": score / 2, "val/box_loss": loss, "lr/pg0": 0.01}
        )  # fmt: skip


def test_a_plain_table_is_enough_for_a_plateau(tmp_path: Path):
    (tmp_path / "args.yaml").write_text("epochs: 200\nwarmup_epochs: 3.0\n")
    table(tmp_path, [*[5.0 - i / 10 for i in range(20)], *[3.0] * 50])
    report = examine(tmp_path)
    assert [finding.rule for finding in report.findings] == ["val_plateau"]
    assert report.findings[0].epoch == 70  # the first at which fifty epochs stood still
    text = "\n".join(report.lines())
    assert "70 of 200 epochs, best mAP50-95 0.250 at epoch 1" in text
    assert "no events.jsonl" in text


def test_events_tell_of_gradients_and_of_what_else_happened(tmp_path: Path):
    table(tmp_path, [3.0, 2.0])
    events = Events()
    events.open(tmp_path)
    events.add("setup", epochs=10, batches=10, objects=50, precision="fp32")
    events.add("rollback", epoch=1)
    for number in (1, 2):
        events.add("epoch", epoch=number, steps=10, not_finite=4, train_loss={"box": 3.0})
    report = examine(tmp_path / "results.csv")
    assert [(finding.rule, finding.epoch) for finding in report.findings] == [("not_finite", 1)]
    assert report.happened == {"rollback": 1}
    assert "no events.jsonl" not in "\n".join(report.lines())


def test_what_was_said_of_the_settings_is_said_again(tmp_path: Path):
    table(tmp_path, [3.0, 2.0])
    events = Events()
    events.open(tmp_path)
    advice = {"rule": "lr0", "severity": "warning", "evidence": "lr0=0.2 with SGD", "remedy": "Less.", "epoch": 0}
    events.add("finding", **advice)
    events.add("finding", **{**advice, "rule": "loader_bound", "epoch": 1})  # the rules say this again, or not
    events.add("finding", rule="cut")
    assert [finding.rule for finding in examine(tmp_path).findings] == ["lr0"]
    assert "! lr0 (before the first epoch): lr0=0.2 with SGD. Less." in list(examine(tmp_path).lines())


def test_a_warm_up_in_steps_is_that_of_the_run(tmp_path: Path):
    (tmp_path / "args.yaml").write_text("epochs: many\nwarmup_epochs: 3.0\nwarmup_steps: 100\n")
    table(tmp_path, [3.0, 2.0])
    assert examine(tmp_path).history.setup.warmup_epochs == 3  # a table knows no better
    events = Events()
    events.open(tmp_path)
    events.add("setup", epochs=10, batches=10, warmup_epochs=10.0)
    events.add("epoch", epoch=1)
    assert examine(tmp_path).history.setup.warmup_epochs == 10
    assert examine(tmp_path).history.setup.epochs == 10


def test_of_a_resumed_run_the_later_line_of_an_epoch_counts(tmp_path: Path):
    events = Events()
    events.open(tmp_path)
    for count in (0, 3):
        events.add("epoch", epoch=1, steps=10, objects=count, images=10)
    assert examine(tmp_path).findings == []


def test_columns_with_spaces_and_a_cut_last_row_are_read(tmp_path: Path):
    (tmp_path / "results.csv").write_text("epoch, train/box_loss, metrics/mAP50-95(B)\n1, 3.0, 0.1\n2, 2.0, 0.2\n3, 1.")
    report = examine(tmp_path)
    assert [epoch.map for epoch in report.history.epochs][:2] == [0.1, 0.2]
    assert report.history.epochs[0].train_loss == {"box": 3.0}


def test_any_place_within_a_run_folder_will_do(tmp_path: Path):
    table(tmp_path, [3.0])
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "last.pt").touch()
    for place in ("", "results.csv", "weights", "weights/last.pt"):
        assert examine(tmp_path / place).folder == tmp_path


def test_what_is_no_run_is_said(tmp_path: Path):
    with pytest.raises(MissingFileError, match="no run folder"):
        examine(tmp_path)
    (tmp_path / "events.jsonl").write_text(json.dumps({"event": "setup", "epochs": 3}) + "\n")
    with pytest.raises(SettingValueError, match="no epoch"):
        examine(tmp_path)
    (tmp_path / "results.csv").write_text("epoch,loss\n1,high\n")
    with pytest.raises(SettingValueError, match="no table of numbers"):
        examine(tmp_path)


def test_limits_of_the_run_are_those_of_the_judgement(tmp_path: Path):
    (tmp_path / "args.yaml").write_text("epochs: 200\ndiagnosis_limits: {plateau_epochs: 5}\n")
    table(tmp_path, [3.0] * 6)
    assert examine(tmp_path).findings[0].epoch == 5
    (tmp_path / "args.yaml").write_text("diagnosis_limits: {plato: 5}\n")
    with pytest.raises(SettingValueError, match="plato"):
        examine(tmp_path)
