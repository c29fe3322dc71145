"""What happens around a run: a disk that fills up, a clock that is set, a machine with another name."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.faults import tiny
from e2e.faults.conftest import Nursery, different, result, wait_until
from sightline.artifacts import checkpoint, tables, writer
from sightline.artifacts.checkpoint import load_checkpoint
from sightline.errors import OutputError
from sightline.train.detect import DetectionTrainer


def trainer(folder: Path, data: Path, **settings: Any) -> DetectionTrainer:
    return DetectionTrainer(
        overrides={**tiny.RUN, "data": str(data), "save_dir": str(folder), "exist_ok": True, **settings}
    )


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it with True, and whatever writes a checkpoint or a table finds no room."""
    state = {"full": False}
    write, append = checkpoint._WatchedFile.write, tables.ResultsTable.append

    def no_room(self: Any, data: Any) -> int:
        if state["full"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, data)

    def no_row(self: Any, row: Any) -> None:
        if state["full"]:
            raise OutputError(f"Cannot write {self.path}: {os.strerror(errno.ENOSPC)}. Free some space.")
        append(self, row)

    monkeypatch.setattr(checkpoint._WatchedFile, "write", no_room)
    monkeypatch.setattr(tables.ResultsTable, "append", no_row)
    return lambda full: state.update(full=full)


def test_a_full_disk_does_not_end_a_run(
    full_disk: Any, clean: dict[str, Any], data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = tmp_path / "run"
    run = trainer(folder, data)
    kept: dict[str, Any] = {}

    def fill(trainer: Any) -> None:
        if trainer.iteration == 2:
            trainer.saver.wait(trainer)
            kept.update(load_checkpoint(trainer.last))
            full_disk(True)

    def free(trainer: Any) -> None:
        if trainer.epoch == 1:
            trainer.saver.wait(trainer)
            # Nothing came through since, not the end of the first epoch either, and what there was is whole.
            now = load_checkpoint(trainer.last)
            assert (now["epoch"], now["run"]["batches_done"]) == (kept["epoch"], kept["run"]["batches_done"])
            assert not trainer.csv.exists()
            assert not trainer.best.exists()
            full_disk(False)

    run.add_callback("on_train_batch_start", fill)
    run.add_callback("on_train_epoch_end", free)
    run.train()
    assert different(clean, result(folder)) == []
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any("No space left on device" in text and "the next save tries again" in text for text in warnings)
    assert not [path for path in run.wdir.iterdir() if path.suffix == ".part"]


def test_a_disk_without_room_is_seen_before(
    monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Nothing is begun that cannot fit; a run whose last save failed, too, ends with an error."""
    monkeypatch.setattr(checkpoint, "free_space", lambda path: 3 * 2**20)
    monkeypatch.setattr("sightline.train.saving.free_space", lambda path: 3 * 2**20)
    run = trainer(tmp_path / "run", data, epochs=1, save_every_steps=0)
    with pytest.raises(OutputError, match=r"it takes .* MB, and 3\.0 MB are free"):
        run.train()
    assert not run.last.exists()
    assert "Free some space" in caplog.text


def test_best_weights_that_found_no_room_come_with_the_next_save(full_disk: Any, tmp_path: Path):
    """best.pt of an epoch that is no longer the newest is not lost, and last.pt is not written without it."""
    import torch

    def content(number: int) -> dict[str, Any]:
        return checkpoint.snapshot({"number": number, "weights": torch.zeros(4)})

    best, last = tmp_path / "best.pt", tmp_path / "last.pt"
    written = writer.CheckpointWriter()
    try:
        written.put([writer.Job(last, content(1), previous=tmp_path / "last.prev.pt")])
        written.wait()
        full_disk(True)
        written.put([writer.Job(best, content(2), precious=True), writer.Job(last, content(2))])
        written.wait()
        assert "No space left" in str(written.failure)
        assert load_checkpoint(last)["number"] == 1
        full_disk(False)
        written.put([writer.Job(last, content(3), previous=tmp_path / "last.prev.pt")])
        written.wait()
        assert written.failure is None
    finally:
        written.close()
    assert [load_checkpoint(path)["number"] for path in (best, last, tmp_path / "last.prev.pt")] == [2, 3, 1]


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_on_a_file_system_that_is_really_full(nursery: Nursery, clean: dict[str, Any], tmp_path: Path):
    with small_disk(tmp_path / "disk", 200) as disk:
        folder, filler = disk / "run", disk / "filler"
        folder.mkdir()
        nursery.start(folder, log=str(tmp_path / "run.log"))
        read = lambda: (tmp_path / "run.log").read_text()  # noqa: E731
        wait_until(lambda: (folder / "weights/last.prev.pt").exists())
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        wait_until(lambda: "the next save tries again" in read())
        filler.unlink()
        assert nursery.end() == 0, read()
        assert different(clean, result(folder)) == []


def test_clock_and_name_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, clean: dict[str, Any], data: Path, tmp_path: Path
):
    """The clock is set back an hour with every look at it, then a year ahead; the machine gets another name."""
    real, looks = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: real() + (365 * 86400 if next(looks) % 3 else -3600 * next(looks)))
    names = iter(f"machine-{number}" for number in range(10_000))
    monkeypatch.setattr(socket, "gethostname", lambda: next(names))
    run = trainer(tmp_path / "run", data)
    run.train()
    assert different(clean, result(tmp_path / "run")) == []
    seconds = [float(row.split(",")[1]) for row in run.csv.read_text().splitlines()[1:]]
    assert seconds == sorted(seconds)
    assert 0 < seconds[0] < seconds[-1] < 600
    assert 0 < run.epoch_time < 600


@pytest.mark.slow
def test_a_time_budget_does_not_look_at_the_clock(monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path):
    """An hour is not over because somebody sets the clock to next year."""
    run = trainer(tmp_path / "run", data, time=1.0, epochs=2, val=False)
    real = time.time
    run.add_callback("on_train_start", lambda _: monkeypatch.setattr(time, "time", lambda: real() + 365 * 86400))

    def end(trainer: Any) -> None:
        trainer.stop = trainer.epoch == 2

    run.add_callback("on_train_batch_end", end)
    run.train()
    assert run.epoch == 2
    assert run.epochs > 100  # what fits into an hour


def test_a_long_validation_is_saved_before(monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path):
    """Whoever sends SIGTERM during it may not wait for its end."""
    monkeypatch.setattr("sightline.train.saving.LONG_VALIDATION", 0.0)
    run = trainer(tmp_path / "run", data, save_every_steps=0)
    found: list[tuple[int, int | None]] = []

    def look(validator: Any) -> None:
        run.saver.wait(run)
        if run.last.exists():
            state = load_checkpoint(run.last)
            found.append((state["epoch"], state["run"]["batches_done"]))

    # In a run of seconds the disk may still be at the save of the epoch before, and such a one is not hurried.
    run.add_callback("on_train_epoch_start", lambda trainer: trainer.saver.wait(trainer))
    run.add_callback("on_val_start", look)
    run.train()
    assert found[0] == (1, 4)  # nobody knows yet how long that of the first epoch takes
