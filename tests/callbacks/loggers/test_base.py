"""What trackers are told, and that whatever they do the run goes on."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from callbacks.loggers.runs import few_pictures, make, rows
from sightline import YOLO
from sightline.callbacks.loggers import base
from sightline.callbacks.loggers.base import Picture, PrecisionRecall, Run, Tracker, curves_of, last_row

GUIDE = Path(__file__).parents[3] / "docs" / "trackers.md"


class Notes(Tracker):
    """Keeps everything it is told, with the thread that told it."""

    title = "Notes"

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[Any, ...]] = []
        self.threads: set[int] = set()

    def _note(self, *facts: Any) -> None:
        self.told.append(facts)
        self.threads.add(threading.get_ident())

    def open(self, run: Run) -> None:
        self._note("open", run)

    def write_numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        self._note("numbers", step, dict(numbers))

    def write_pictures(self, step: int, pictures: list[Picture]) -> None:
        self._note("pictures", step, pictures)

    def write_curves(self, step: int, curves: list[PrecisionRecall]) -> None:
        self._note("curves", step, curves)

    def write_result(self, step: int, numbers: Mapping[str, float]) -> None:
        self._note("result", step, dict(numbers))

    def close(self, *, finished: bool) -> None:
        self._note("close", finished)

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [facts[1:] for facts in self.told if facts[0] == kind]


def test_a_tracker_is_told_what_is_in_the_run_folder(
    tiny_data: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    few_pictures(monkeypatch)
    notes = Notes()
    trainer = make(tiny_data, tiny_model, tmp_path, [notes], plots=True)
    trainer.train()
    assert notes.told[0][0] == "open"
    assert notes.told[-1] == ("close", True)
    (run,) = notes.of("open")[0]
    assert (run.folder, run.first_step, run.resumed) == (trainer.save_dir.resolve(), 1, False)
    assert run.settings["imgsz"] == 64
    table = rows(trainer.save_dir)
    steps = dict(notes.of("numbers"))
    assert list(steps) == [1, 2, 3]
    for step, numbers in steps.items():
        assert numbers == pytest.approx({name: values[step] for name, values in table.items()}, rel=1e-4, abs=1e-6)
    ((last, result),) = notes.of("result")
    assert last == 3
    assert result["best/metrics/mAP50(B)"] == pytest.approx(trainer.metrics["metrics/mAP50(B)"])
    # Every picture of the folder once; those of the last epoch's validation and of best.pt apart.
    told = {picture.name: picture.content for _, pictures in notes.of("pictures") for picture in pictures}
    assert {"labels", "train_batch0", "val_batch0_pred", "best/val_batch0_pred"} <= told.keys()
    assert told["best/val_batch0_pred"] == (trainer.save_dir / "val_batch0_pred.jpg").read_bytes()
    assert sum(len(pictures) for _, pictures in notes.of("pictures")) == len(told)
    # In a thread that is none of the trainer's, and that has ended.
    assert notes.threads.isdisjoint({threading.get_ident()})
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sightline-Notes")]


def test_curves_are_those_of_the_validation():
    metric = SimpleNamespace(
        px=np.linspace(0, 1, 5),
        p_curve=np.array([[0.5, 0.6, 0.7, 0.8, 1.0], [0.1, 0.2, 0.3, 0.4, 1.0]]),
        r_curve=np.array([[1.0, 0.8, 0.6, 0.4, 0.0], [0.5, 0.4, 0.3, 0.2, 0.0]]),
        ap_class_index=np.array([0, 2]),  # nothing is labelled as class 1
    )
    metrics = SimpleNamespace(kinds={"Box": metric}, nt_per_class=np.array([4, 0, 6]), names={0: "a", 1: "b", 2: "c"})
    mean, a, c = curves_of(SimpleNamespace(metrics=metrics), by_class=True)
    assert [(each.name, each.objects) for each in (mean, a, c)] == [("Box", 10), ("Box/a", 4), ("Box/c", 6)]
    np.testing.assert_allclose(mean.precision, [0.3, 0.4, 0.5, 0.6, 1.0])
    np.testing.assert_allclose(c.recall, [0.5, 0.4, 0.3, 0.2, 0.0])
    assert list(curves_of(SimpleNamespace(metrics={"accuracy": 0.5}))) == []  # a validator of a user's own


def test_columns_that_an_epoch_has_not_are_left_out():
    nan = float("nan")
    assert last_row({"a": [1.0, 2.0], "b": [1.0, nan], "late": [5.0], "c": [0.0, 4]}) == {"a": 2.0, "c": 4.0}


class Broken(Tracker):
    """Raises wherever it is called, or, with `opens`, everywhere else. SystemExit, because packages do that, too."""

    title = "Broken"

    def __init__(self, *, opens: bool) -> None:
        super().__init__()
        self.opens = opens
        self.calls: list[str] = []

    def _raise(self, name: str) -> None:
        self.calls.append(name)
        raise (SystemExit if len(self.calls) % 2 else OSError)(f"no server in {name}")

    def open(self, run: Run) -> None:
        if not self.opens:
            self._raise("open")

    def write_numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        self._raise("write_numbers")

    def write_pictures(self, step: int, pictures: list[Picture]) -> None:
        self._raise("write_pictures")

    def write_curves(self, step: int, curves: list[PrecisionRecall]) -> None:
        self._raise("write_curves")

    def write_result(self, step: int, numbers: Mapping[str, float]) -> None:
        self._raise("write_result")

    def close(self, *, finished: bool) -> None:
        self._raise("close")


@pytest.mark.parametrize("opens", [False, True])
def test_a_tracker_that_raises_everywhere_says_one_line(
    opens: bool, tiny_data: Path, tiny_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    broken = Broken(opens=opens)
    trainer = make(tiny_data, tiny_model, tmp_path, [broken], epochs=2)
    trainer.train()
    assert list(rows(trainer.save_dir)["train/box_loss"]) == [1, 2]
    assert trainer.best.exists()
    if opens:
        assert broken.calls.count("write_numbers") == 2  # it goes on trying: a server may come back
        assert {"write_result", "close"} <= set(broken.calls)
    else:
        assert broken.calls == ["open", "close"]
    (line,) = [message for message in caplog.messages if "Broken" in message]
    assert "no server in" in line
    assert "the run goes on" in line
    events = [json.loads(line) for line in (trainer.save_dir / "events.jsonl").read_text().splitlines()]
    assert [event["tracker"] for event in events if event["event"] == "tracker"] == ["Broken"]


def test_what_is_gathered_cannot_end_the_run_either(
    tiny_data: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: Any, **__: Any) -> Any:
        raise KeyError("a validator of one's own")

    monkeypatch.setattr(base, "curves_of", refuse)
    monkeypatch.setattr(base, "_times", refuse)
    notes = Notes()
    trainer = make(tiny_data, tiny_model, tmp_path, [notes], epochs=1)
    trainer.train()
    assert [step for step, _ in notes.of("numbers")] == [1]  # what could be gathered has come
    assert notes.has_failed


def test_a_tracker_that_hangs_does_not_hold_the_run(
    tiny_data: Path,
    tiny_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    release = threading.Event()
    monkeypatch.setattr(base, "LAST_SECONDS", 0.1)
    monkeypatch.setattr(Notes, "open", lambda self, run: release.wait(60))
    notes = Notes()
    trainer = make(tiny_data, tiny_model, tmp_path, [notes], epochs=1)
    trainer.train()
    release.set()
    assert "Notes: has not taken everything within" in caplog.text
    assert list(rows(trainer.save_dir)["train/box_loss"]) == [1]


@pytest.mark.parametrize(("finished", "most"), [(True, 60.0), (False, 10.0)])  # killed 30 s after a SIGTERM
def test_after_a_signal_there_is_less_time(finished: bool, most: float):
    waited: list[float] = []
    notes = Notes()
    notes.finished = finished
    notes.worker = SimpleNamespace(put=lambda task: task(), finish=lambda s: not waited.append(s))  # type: ignore
    notes.teardown(SimpleNamespace())  # type: ignore[arg-type]
    assert waited == [most]
    assert notes.told == [("close", finished)]


def test_a_run_that_fails_is_closed_as_such(tiny_data: Path, tiny_model: str, tmp_path: Path):
    def fail(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise ValueError("a user's own")

    notes = Notes()
    with pytest.raises(ValueError, match="a user's own"):
        make(tiny_data, tiny_model, tmp_path, [notes, ("on_train_epoch_start", fail)]).train()
    assert [step for step, _ in notes.of("numbers")] == [1]
    assert notes.told[-1] == ("close", False)


def test_other_ranks_and_dry_runs_tell_nobody(tiny_data: Path, tiny_model: str, tmp_path: Path):
    notes = Notes()
    notes.on_train_start(SimpleNamespace(rank=1, rehearsal=None))  # type: ignore[arg-type]
    assert notes.worker is None
    make(tiny_data, tiny_model, tmp_path, [notes], dry_run=True).train()
    assert notes.told == []


def test_the_tracker_of_the_guide_works(
    tiny_data: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def train(self: YOLO, **settings: Any) -> Any:
        assert settings["data"] == "coffee.yaml"
        make(tiny_data, tiny_model, tmp_path, settings["callbacks"], epochs=settings["epochs"]).train()

    monkeypatch.setattr(YOLO, "train", train)
    (block,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, str(GUIDE), "exec"), {"__name__": "__main__"})
    lines = (tmp_path / "run" / "lines.txt").read_text().splitlines()
    losses = rows(tmp_path / "run")["train/box_loss"]
    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert [float(line.split()[1]) for line in lines] == pytest.approx(list(losses.values()), rel=1e-4)
