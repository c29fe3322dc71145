"""A snapshot is the state at its moment, and what reaches the disk is whole or not there."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.artifacts import checkpoint
from sightline.artifacts.checkpoint import load_checkpoint, load_latest, save_checkpoint, size_of, snapshot
from sightline.artifacts.run_dir import checkpoint_to_resume, latest_checkpoint
from sightline.artifacts.writer import CheckpointWriter, Job
from sightline.errors import CheckpointError, MissingInputError, OutputError
from sightline.files import atomic_write, previous_of, remove_unfinished


def numbered(number: int) -> dict[str, Any]:
    return snapshot({"number": number, "weights": torch.full((100,), float(number))})


def test_training_goes_on_while_a_snapshot_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    weights, begun, go_on = torch.zeros(1000), threading.Event(), threading.Event()
    content = snapshot({"weights": weights, "same": weights.detach(), "part": weights[:10]})
    assert size_of(content) == 4 * 1000 + 4 * 10  # what shares memory is there once
    write = checkpoint._WatchedFile.write

    def slowly(self: Any, data: Any) -> int:
        begun.set()
        go_on.wait(10)
        return write(self, data)

    monkeypatch.setattr(checkpoint._WatchedFile, "write", slowly)
    writer = CheckpointWriter()
    writer.put([Job(tmp_path / "last.pt", content)])
    assert begun.wait(10)
    assert writer.busy
    weights += 1  # the next step
    go_on.set()
    writer.wait()
    assert not writer.busy
    writer.close()
    found = load_checkpoint(tmp_path / "last.pt")
    assert found["weights"].sum() == found["same"].sum() == 0


def test_the_one_before_is_kept(tmp_path: Path):
    last, writer = tmp_path / "last.pt", CheckpointWriter()
    for number in (1, 2, 3):
        writer.put([Job(last, numbered(number), previous=previous_of(last))])
    writer.wait()
    writer.close()
    assert [load_checkpoint(file)["number"] for file in (last, tmp_path / "last.prev.pt")] == [3, 2]
    assert {file.name for file in tmp_path.iterdir()} == {"last.pt", "last.prev.pt"}


def test_what_cannot_be_read_back_does_not_take_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A disk that returns other bytes than it was given."""
    last, writer = tmp_path / "last.pt", CheckpointWriter()
    writer.put([Job(last, numbered(1))])
    writer.wait()
    write, written = checkpoint._WatchedFile.write, []

    def damaged(self: Any, data: Any) -> int:
        written.append(len(data))
        data = bytearray(data)
        if len(data) >= 400:  # the tensor
            data[len(data) // 2] ^= 1
        return write(self, bytes(data))

    monkeypatch.setattr(checkpoint._WatchedFile, "write", damaged)
    writer.put([Job(last, numbered(2), previous=previous_of(last))])
    writer.wait()
    writer.close()
    assert max(written) >= 400
    assert "cannot be read again" in str(writer.failure)
    assert load_checkpoint(last)["number"] == 1
    assert {file.name for file in tmp_path.iterdir()} == {"last.pt"}


def test_a_mistake_in_the_thread_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sightline.artifacts.writer.write_snapshot", lambda *_, **__: 1 / 0)
    writer = CheckpointWriter()
    writer.put([Job(tmp_path / "last.pt", numbered(1))])
    with pytest.raises(ZeroDivisionError):
        writer.wait()
    writer.close()


@pytest.mark.parametrize("harm", ["truncated", "empty", "flipped", "gone"])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(harm: str, tmp_path: Path):
    last = tmp_path / "weights" / "last.pt"
    save_checkpoint(previous_of(last), numbered(1))
    save_checkpoint(last, numbered(2))
    assert load_latest(last, load_checkpoint)[0]["number"] == 2
    data = last.read_bytes()
    place = data.index(torch.full((100,), 2.0).numpy().tobytes()) + 200
    if harm == "gone":
        last.unlink()
    else:
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        last.write_bytes({"truncated": data[: len(data) // 2], "empty": b"", "flipped": flipped}[harm])
    found, path = load_latest(last, load_checkpoint)
    assert (found["number"], path) == (1, previous_of(last))
    assert checkpoint_to_resume(str(last)) == checkpoint_to_resume(str(tmp_path)) == last
    assert latest_checkpoint(tmp_path) == last
    previous_of(last).write_bytes(b"")
    with pytest.raises(MissingInputError if harm == "gone" else CheckpointError):
        load_latest(last, load_checkpoint)


def test_unfinished_files_are_removed_and_others_stay(tmp_path: Path):
    for name in (".last.pt.x1.part", ".last.prev.pt.part", ".other.pt.x.part", "last.pt"):
        (tmp_path / name).write_text("")
    remove_unfinished(tmp_path / "last.pt")
    remove_unfinished(tmp_path / "last.prev.pt")
    assert {file.name for file in tmp_path.iterdir()} == {".other.pt.x.part", "last.pt"}


def test_without_hard_links_the_old_file_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    for text in ("1", "2"):
        with atomic_write(tmp_path / "a.txt", "w", previous=tmp_path / "b.txt") as file:
            file.write(text)
    assert [(tmp_path / name).read_text() for name in ("a.txt", "b.txt")] == ["2", "1"]


def test_a_check_that_fails_leaves_what_was_there(tmp_path: Path):
    (tmp_path / "a.txt").write_text("1")

    def refuse(path: Path) -> None:
        assert path.read_text() == "2"
        raise OSError("not good enough")

    with (
        pytest.raises(OutputError, match="not good enough"),
        atomic_write(tmp_path / "a.txt", "w", check=refuse, previous=tmp_path / "b.txt") as file,
    ):
        file.write("2")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.txt": "1"}
