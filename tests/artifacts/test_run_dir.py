"""Run folders: where they lie, how they are numbered, and what happens where none can be made."""

from __future__ import annotations

import errno
import multiprocessing
import os
import tempfile
from pathlib import Path

import pytest

from sightline.artifacts.run_dir import increment_path, latest_checkpoint, make_run_dir, remove_empty
from sightline.config.settings import Settings
from sightline.errors import OutputError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_default_place_is_below_the_working_directory(here: Path):
    made = [make_run_dir(Settings(), "detect", mode) for mode in ("train", "train", "val")]
    assert made == [here / "runs/detect/train", here / "runs/detect/train-2", here / "runs/detect/val"]
    assert all(path.is_dir() for path in made)


def test_a_users_project_and_name_are_taken_as_written(here: Path):
    assert make_run_dir(Settings(project="runs/train", name="a"), "detect", "train") == here / "runs/train/a"
    assert (
        make_run_dir(Settings(project="mit Leer zeichen/größe"), "detect", "val") == here / "mit Leer zeichen/größe/val"
    )
    assert make_run_dir(Settings(project=str(here / "x"), name="b.c"), "detect", "train") == here / "x/b.c"
    assert make_run_dir(Settings(project=str(here / "x"), name="b.c"), "detect", "train") == here / "x/b.c-2"


def test_exist_ok_takes_the_folder_that_is_there(here: Path):
    first = make_run_dir(Settings(exist_ok=True), "detect", "train")
    (first / "old.txt").touch()
    assert make_run_dir(Settings(exist_ok=True), "detect", "train") == first
    assert (first / "old.txt").exists()


def test_save_dir_wins_and_is_never_numbered(here: Path):
    settings = Settings(save_dir="out", project="p", name="n")
    assert [make_run_dir(settings, "detect", "train") for _ in range(2)] == [here / "out"] * 2


def test_a_gap_is_used_and_a_broken_link_is_not_overwritten(here: Path):
    (here / "run").symlink_to(here / "nowhere")
    assert increment_path(here / "run") == here / "run-2"
    for name in ("run-2", "run-4"):
        (here / name).mkdir()
    assert increment_path(here / "run") == here / "run-3"
    assert increment_path(here / "run", sep="_") == here / "run_2"


def test_a_run_that_does_not_start_takes_its_empty_folders_with_it(here: Path):
    (here / "mine").mkdir()
    made: list[Path] = []
    assert make_run_dir(Settings(project="mine/a/b"), "detect", "train", made=made) == here / "mine/a/b/train"
    assert made == [here / "mine/a", here / "mine/a/b", here / "mine/a/b/train"]
    remove_empty(made)
    assert (list(here.rglob("*")), made) == ([here / "mine"], [])  # an empty folder of the user's stays
    make_run_dir(Settings(), "detect", "train", made=made)
    (here / "runs/detect/other").mkdir()
    remove_empty(made)
    assert [path.name for path in (here / "runs/detect").iterdir()] == ["other"]


def unwritable_places() -> list:
    return [
        pytest.param({"project": "file.txt/runs"}, "file.txt", id="below a file"),
        pytest.param({"project": "/proc/nothing"}, "/proc", id="read-only file system"),
        pytest.param({"save_dir": "file.txt"}, "file.txt", id="a file"),
        pytest.param({"project": "new/deep", "name": "x" * 300}, "xxx", id="too long"),
        pytest.param({"project": "new/deep", "name": "a\0b"}, "null", id="a zero byte"),
        pytest.param({"project": "~nobody_of_that_name/x"}, "nobody_of_that_name", id="an unknown home"),
        pytest.param({"project": "file.txt", "name": "n", "exist_ok": True}, "file.txt", id="exist_ok below a file"),
    ]


@pytest.mark.parametrize(("values", "named"), unwritable_places())
def test_a_place_that_cannot_be_written_is_one_clear_error(here: Path, values: dict, named: str):
    (here / "file.txt").write_text("mine")
    with pytest.raises(OutputError) as caught:
        make_run_dir(Settings(**values), "detect", "train")
    assert named in str(caught.value)
    assert "project" in str(caught.value) or "save_dir" in str(caught.value)
    assert sorted(path.name for path in here.iterdir()) == ["file.txt"]  # nothing half-made stays
    assert (here / "file.txt").read_text() == "mine"


def test_a_full_disk_is_found_before_the_run_and_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def write(self, _):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(OutputError, match="No space left"):
        make_run_dir(Settings(), "detect", "train")
    assert not list(here.iterdir())


def test_a_failure_leaves_folders_that_were_there(here: Path, monkeypatch: pytest.MonkeyPatch):
    (here / "runs").mkdir()
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: (_ for _ in ()).throw(OSError(errno.EROFS, "read-only")))
    with pytest.raises(OutputError, match="read-only"):
        make_run_dir(Settings(), "detect", "train")
    assert [path.name for path in here.iterdir()] == ["runs"]
    assert not list((here / "runs").iterdir())


def _make_several(folder: str, results) -> None:
    results.put([str(make_run_dir(Settings(project=folder), "detect", "train")) for _ in range(10)])


def test_runs_that_start_together_get_different_folders(here: Path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=_make_several, args=(str(here / "p"), results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    made = [path for _ in workers for path in results.get(timeout=60)]
    for worker in workers:
        worker.join()
    assert len(set(made)) == 30


def test_the_newest_last_checkpoint_is_found(here: Path):
    assert latest_checkpoint() is None
    for age, name in enumerate(["a/weights/last.pt", "b/weights/last.pt", "c/weights/best.pt"]):
        path = here / name
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    assert latest_checkpoint(here) == here / "a/weights/last.pt"
