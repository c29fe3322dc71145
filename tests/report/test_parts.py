"""Commands, history and times: what the page is told."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from report.run_folders import make_run, seconds
from sightline.config.command_line import parse_command_line
from sightline.config.load import make_settings, to_yaml
from sightline.report.collect import best_epoch
from sightline.report.commands import commands_of
from sightline.report.history import marks_of, traces_of
from sightline.report.settings_file import read_settings
from sightline.report.timing import timing_of, verdict


def test_the_command_to_reproduce_gives_the_settings_again(tmp_path: Path):
    asked = {
        "model": "yolo26n.yaml",
        "data": "my data.yaml",
        "lr0": 0.02,
        "classes": [0, 2],
        "cos_lr": True,
        "time": None,
        "diagnosis_limits": {"grad_norm": 5000},
    }
    settings = make_settings("train", asked)
    settings.fill_auto("nbs", 16)
    (tmp_path / "args.yaml").write_text(to_yaml(settings, save_dir="/runs/x"))
    rows = {row["title"]: row["command"] for row in commands_of(tmp_path, read_settings(tmp_path / "args.yaml"))}
    program, *words = shlex.split(rows["Reproduce"])
    assert program == "sightline"
    line = parse_command_line(words)
    assert line.overrides == {name: value for name, value in asked.items() if value is not None} | (
        {"time": None} if "time" in line.overrides else {}
    )
    again = make_settings("train", line.overrides)
    assert [item for item in again.items() if item[0] != "nbs"] == [i for i in settings.items() if i[0] != "nbs"]
    assert "Resume" not in rows  # there is no last.pt


def test_origins_are_those_of_the_file(tmp_path: Path):
    found = {setting.name: setting for setting in read_settings(make_run(tmp_path / "run") / "args.yaml")}
    assert (found["lr0"].origin, found["nbs"].origin, found["imgsz"].origin) == ("code", "auto", "default")
    assert (found["imgsz"].value, found["imgsz"].default) == (64, 640)


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ({"metrics/mAP50-95(B)": [0.1, 0.5, 0.2]}, 1),
        ({"metrics/mAP50-95(B)": [0.1, 0.5, 0.4], "metrics/mAP50-95(P)": [0.1, 0.1, 0.3]}, 2),
        ({"metrics/mAP50-95(B)": [0.1, 0.5, 0.2], "fitness/recall": [0.9, 0.1, 0.2]}, 0),
        ({"metrics/mAP50-95(B)": [None, 0.1, None]}, 1),
        ({"metrics/mAP50-95(B)": [None]}, None),
        ({"train/box_loss": [1.0]}, None),
    ],
)
def test_the_best_epoch_is_that_of_the_fitness(table: dict[str, list[float | None]], row: int | None):
    assert best_epoch(table) == row


def test_what_repeats_is_marked_once():
    events = [{"event": "unreadable_images", "epoch": n, "reason": "x"} for n in range(5, 30)]
    events += [{"event": "trace", "epoch": 1}, {"event": "finding", "rule": "a_b", "severity": "error", "epoch": 0}]
    first, second = marks_of(events)
    assert (first["title"], first["epoch"], first["severity"]) == ("a b", 0, "error")
    assert (second["title"], second["epoch"], second["again"]) == ("unreadable images", 5, 24)


def test_of_a_resumed_run_the_later_line_counts():
    events = [
        {"event": "epoch", "epoch": n, "grad_norm": value} for n, value in ((1, 1.0), (2, 2.0), (2, 7.0), (9, 1.0))
    ]
    assert traces_of(events, [1.0, 2.0, 3.0]) == {"grad_norm": [1.0, 7.0, None]}


def test_the_first_epoch_does_not_count_as_time():
    timing = timing_of([{"event": "trace", "epoch": n + 1, "seconds": seconds(n)} for n in range(3)])
    assert timing is not None
    assert timing["epochs"] == 2
    assert timing["parts"]["wait for batches"] == 8


@pytest.mark.parametrize(
    ("wait", "validate", "said"), [(5, 0, "loader"), (0, 9, "Validation takes 47%"), (1, 1, "The network is")]
)
def test_the_verdict_names_the_bottleneck(wait: float, validate: float, said: str):
    parts = {"wait for batches": wait, "forward": 5, "backward": 5, "optimizer": 0, "validate": validate, "other": 0}
    assert said in verdict(parts)


@pytest.mark.parametrize(
    ("load", "augment", "said"),
    [(6, 2, "75% of the work on them is reading: cache"), (1, 9, "90% of the work on them is augmenting")],
)
def test_waiting_is_divided_as_the_work_was(load: float, augment: float, said: str):
    work = {"load": load, "augment": augment, "workers": 2}
    timing = timing_of([{"event": "trace", "epoch": n + 1, "seconds": seconds(n), "work": work} for n in range(3)])
    assert timing is not None
    part = load / (load + augment)
    assert (timing["parts"]["load"], timing["parts"]["augment"]) == pytest.approx((8 * part, 8 * (1 - part)))
    assert timing["parts"]["wait for batches"] == 0
    assert timing["work"] == {"load": 2 * load, "augment": 2 * augment, "workers": 2}
    assert said in timing["verdict"]
