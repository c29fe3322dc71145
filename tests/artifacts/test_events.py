from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from sightline.artifacts.events import NAME, Events, read_events


def test_events_wait_for_their_folder_and_keep_their_order(tmp_path: Path):
    events = Events()
    events.add("early", loss=float("nan"), names={"a": [1, 2.5]}, where=tmp_path)
    events.open(tmp_path)
    events.add("late", count=3)
    lines = [json.loads(line) for line in (tmp_path / NAME).read_text().splitlines()]
    assert [line["event"] for line in lines] == ["early", "late"]
    assert lines[0]["loss"] is None
    assert lines[0]["names"] == {"a": [1, 2.5]}
    assert lines[0]["where"] == str(tmp_path)
    assert lines[1]["count"] == 3
    assert lines[0]["time"] <= lines[1]["time"]


def test_a_line_that_a_crash_has_cut_costs_only_itself(tmp_path: Path):
    events = Events()
    events.open(tmp_path)
    events.add("whole")
    with (tmp_path / NAME).open("a") as file:
        file.write('{"event": "cu')
    events.add("next")
    assert [event["event"] for event in read_events(tmp_path / NAME)] == ["whole", "next"]


def test_lines_of_several_threads_do_not_mix(tmp_path: Path):
    events = Events()
    events.open(tmp_path)
    threads = [
        threading.Thread(target=lambda n=n: [events.add("step", n=n, pad="x" * 200) for _ in range(50)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = list(read_events(tmp_path / NAME))
    assert sorted(event["n"] for event in found) == sorted(list(range(4)) * 50)


def test_a_rank_that_does_not_write_drops_them(tmp_path: Path):
    events = Events()
    events.silent = True
    events.add("something")
    events.open(tmp_path)
    assert events.waiting == []
    assert list(read_events(tmp_path / NAME)) == []


def test_a_file_that_cannot_be_written_ends_nothing_and_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    events = Events()
    events.open(tmp_path / "gone")
    with caplog.at_level("WARNING", logger="sightline"):
        events.add("one")
        events.add("two")
    assert len(caplog.records) == 1
    assert "cannot be written" in caplog.text
    (tmp_path / "gone").mkdir()
    events.add("three")
    assert [event["event"] for event in events.read()] == ["three"]
