from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from sightline.artifacts.events import NAME, read_events
from sightline.artifacts.validation_record import read_validation
from sightline.callbacks import report as module
from sightline.doctor.run import examine
from train.test_trainer import make


def test_a_run_leaves_a_page_and_what_it_is_made_of(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, epochs=2, plots=False)
    trainer.train()
    folder = trainer.save_dir
    text = (folder / "report.html").read_text(encoding="utf-8")
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    (run,) = data["runs"]
    assert run["finished"]
    assert run["epochs"] == 2
    found = read_validation(folder)
    assert found is not None
    measured = {name: value for name, value in found["metrics"].items() if name.startswith("metrics/")}
    assert measured == pytest.approx({name: trainer.metrics[name] for name in measured}, abs=1e-4)
    assert len(measured) >= 4
    assert sum(row["objects"] for row in found["classes"]) == int(trainer.validator.metrics.nt_per_class.sum())
    assert found["showcase"]  # a network of two epochs has missed something
    events = list(read_events(folder / NAME))
    traces = [event for event in events if event["event"] == "trace"]
    assert [event["epoch"] for event in traces] == [1, 2]
    assert all(event["seconds"]["forward"] > 0 and event["seconds"]["validate"] > 0 for event in traces)
    assert all(event["work"]["load"] > 0 and event["work"]["augment"] > 0 for event in traces)
    assert not examine(folder).happened  # none of it is an incident


def test_report_off_writes_nothing(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, epochs=1, plots=False, report=False)
    trainer.train()
    assert not {"report.html", "validation.json"} & {file.name for file in trainer.save_dir.iterdir()}
    assert not {"trace", "data", "environment"} & {event["event"] for event in read_events(trainer.save_dir / NAME)}
    assert trainer.validator.showcase is None


def test_a_page_that_fails_does_not_end_the_run(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no page today")

    monkeypatch.setattr(module, "write_report", broken)
    monkeypatch.setattr(module, "record_of", broken)
    monkeypatch.setattr(module, "environment", broken)
    trainer = make(tiny_data, tmp_path, epochs=1, plots=False)
    with caplog.at_level(logging.WARNING, logger="sightline"):
        trainer.train()
    assert trainer.best.exists()
    assert caplog.text.count("no page today") == 3
