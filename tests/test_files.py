"""Folders for caches, locks between processes, files that are complete or not there."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from sightline import files
from sightline.errors import OutputError
from sightline.files import atomic_write, cache_folder, free_space, lock


def test_where_caches_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("SIGHTLINE_CACHE", "SIGHTLINE_DATASETS", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for platform, folder in (("linux", ".cache"), ("darwin", "Library/Caches"), ("win32", "AppData/Local")):
        monkeypatch.setattr(files.sys, "platform", platform)
        assert cache_folder("labels") == tmp_path / folder / "sightline" / "labels"
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "c"))
    assert cache_folder("datasets") == tmp_path / "c" / "datasets"
    monkeypatch.setenv("SIGHTLINE_DATASETS", str(tmp_path / "d"))
    assert cache_folder("datasets") == tmp_path / "d"
    assert cache_folder("weights") == tmp_path / "c" / "weights"
    assert list(tmp_path.iterdir()) == []  # asking makes no folder


def test_without_a_home_there_is_still_a_cache(monkeypatch: pytest.MonkeyPatch):
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("SIGHTLINE_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder("images").name == "images"


CHILD = """
import sys
from pathlib import Path
from sightline.files import lock
with lock(sys.argv[1]):
    Path(sys.argv[2]).write_text("inside")
"""


def test_a_second_process_waits_for_the_lock(tmp_path: Path):
    mark = tmp_path / "mark"
    with lock(tmp_path / "folder" / "x.lock"):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "folder" / "x.lock"), str(mark)])
        time.sleep(1.0)
        assert not mark.exists()
    assert child.wait(timeout=60) == 0
    assert mark.read_text() == "inside"


def test_a_lock_ends_with_an_error(tmp_path: Path):
    with pytest.raises(KeyError), lock(tmp_path / "x.lock"):
        raise KeyError
    with lock(tmp_path / "x.lock"):
        pass


def test_a_lock_where_nothing_can_be_written(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"Cannot write .*x\.lock"), lock(tmp_path / "file" / "x.lock"):
        pass


@pytest.mark.parametrize("durable", [True, False])
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, durable: bool):
    target = tmp_path / "new folder" / "x"
    with atomic_write(target, durable=durable) as file:
        file.write(b"old")
    with pytest.raises(OutputError, match="Cannot write"):
        write_half(target, durable)
    assert target.read_bytes() == b"old"
    assert [path.name for path in target.parent.iterdir()] == ["x"]


def write_half(target: Path, durable: bool) -> None:
    with atomic_write(target, durable=durable) as file:
        file.write(b"new")
        raise OSError(28, "No space left on device")


def test_free_space_of_a_folder_to_come(tmp_path: Path):
    assert free_space(tmp_path / "a" / "b") > 0
