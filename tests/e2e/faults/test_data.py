"""Files that go bad and worker processes that die: the run goes on with the same batches, and says so."""

from __future__ import annotations

import functools
import logging
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from e2e.faults.test_nan import ended_well, run
from sightline.config.settings import Settings
from sightline.data.images import ImageError
from sightline.data.loader import build_dataset, build_loader
from sightline.data.spec import load_dataset_spec
from sightline.errors import DataError
from sightline.train.detect import DetectionTrainer


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    shutil.copytree(tiny_data.parent, tmp_path / "data")
    return tmp_path / "data" / tiny_data.name


@pytest.fixture
def train(data: Path, tiny_model: str, tmp_path: Path) -> Callable[..., DetectionTrainer]:
    # Without mosaic nothing is kept in memory, so every epoch opens the files anew.
    return functools.partial(run, data, tmp_path, model=tiny_model, mosaic=0.0, val=True)


def at_epoch(number: int, action: Callable[[], Any]) -> dict[str, Callable[[Any], None]]:
    def act(trainer: DetectionTrainer) -> None:
        if trainer.epoch + 1 == number and trainer.batch_index == 0:
            action()

    return {"on_train_epoch_start": act}


def test_a_training_image_that_goes_bad_is_replaced(
    train: Callable[..., DetectionTrainer], data: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    bad = data.parent / "images" / "train" / "3.png"
    shown: list[list[str]] = []

    class Listing(DetectionTrainer):
        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            shown.append([Path(path).name for path in batch["im_file"]])
            assert "unreadable" not in batch
            return super().preprocess_batch(batch)

    trainer = train(Listing, epochs=4, callbacks=at_epoch(3, lambda: bad.write_bytes(b"no image")))
    ended_well(trainer, 4)
    names = ["".join(sorted(name[0] for batch in shown[i : i + 2] for name in batch)) for i in (0, 2, 4, 6)]
    assert names == ["01234567", "01234567", "01244567", "01244567"]  # 4 in the place of 3
    said = [r.getMessage() for r in caplog.records if "be read" in r.getMessage()]
    assert [text[:7] for text in said] == ["epoch 3", "epoch 4"]
    assert "1 image cannot be read any more and was replaced by others (1×)" in said[0]
    assert "3.png" in said[0]
    assert said[1] == "epoch 4: 1 image that could not be read before was replaced by others again (1×)"
    assert [event["evidence"]["files"] for event in trainer.guard.events] == [[str(bad)], [str(bad)]]


def test_a_validation_image_that_goes_bad_is_left_out(train: Callable[..., DetectionTrainer], data: Path):
    bad = data.parent / "images" / "val" / "1.png"
    trainer = train(epochs=3, callbacks=at_epoch(2, bad.unlink))
    ended_well(trainer, 3)
    assert [event["epoch"] for event in trainer.guard.events][:1] == [2]
    assert "left out of validation" in trainer.guard.events[0]["evidence"]["reason"]
    assert trainer.validator.seen == 3


def test_every_file_of_a_lost_validation_batch_is_named(data: Path):
    dataset = build_dataset(Settings(imgsz=64), load_dataset_spec(str(data)), mode="val", batch_size=2, rect=False)
    dataset.unreadable = "skip"
    for number in (0, 1):
        (data.parent / "images" / "val" / f"{number}.png").unlink()
    loader = build_loader(dataset, 2, shuffle=False, workers=0)
    assert [len(batch["im_file"]) for batch in loader] == [2]
    assert [Path(path).name for path in loader.unreadable.take()] == ["0.png", "1.png"]


def test_without_any_image_the_run_says_so(train: Callable[..., DetectionTrainer], data: Path):
    def unplug() -> None:
        shutil.rmtree(data.parent / "images" / "train")

    with pytest.raises(DataError, match="is the disk there"):
        train(epochs=3, callbacks=at_epoch(2, unplug))


# ------------------------------------------------------------------ worker processes


def loader_of(data: Path, *, workers: int, **settings: Any) -> Any:
    cfg = Settings(imgsz=64, **settings)
    dataset = build_dataset(cfg, load_dataset_spec(str(data)), mode="train", batch_size=1)
    return build_loader(dataset, 1, shuffle=True, workers=workers, accelerator=True)


def kill_one(loader: Any) -> None:
    worker = loader._processes._iterator._workers[0]
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(10)


@pytest.mark.parametrize("moment", [0, 3])  # each worker keeps two batches ready
def test_a_killed_worker_is_replaced_and_the_batches_are_the_same(
    moment: int, tiny_data: Path, caplog: pytest.LogCaptureFixture
):
    expected = list(loader_of(tiny_data, workers=0))
    loader = loader_of(tiny_data, workers=2)
    try:
        found = []
        for number, batch in enumerate(loader):
            if number == moment:
                kill_one(loader)
                torch.ones(1000).sum()  # torch's own signal handler would raise somewhere here
            found.append(batch)
        assert len(found) == len(expected) == 8
        for one, other in zip(found, expected, strict=True):
            assert one["im_file"] == other["im_file"]
            for name in ("img", "cls", "bboxes", "batch_idx"):
                assert torch.equal(one[name], other[name])
        assert loader.restarts == 1
        assert "new ones go on with batch" in caplog.text
        loader.set_epoch(1)
        assert len(list(loader)) == 8  # and the next epoch has workers again
    finally:
        loader.close()


def test_a_worker_may_die_between_two_epochs(tiny_data: Path):
    expected, loader = loader_of(tiny_data, workers=0), loader_of(tiny_data, workers=2)
    try:
        for epoch in (0, 1, 2):
            for one in (expected, loader):
                one.set_epoch(epoch)
            assert [batch["im_file"] for batch in loader] == [batch["im_file"] for batch in expected]
            if epoch == 0:
                kill_one(loader)  # while the network is validated, for instance
        assert loader.take_restarts() == 1
        assert loader.restarts == 0
    finally:
        loader.close()


def test_the_message_counts_batches_from_the_start_of_the_epoch(tiny_data: Path, caplog: pytest.LogCaptureFixture):
    loader = loader_of(tiny_data, workers=1)
    loader.set_epoch(0, start=3)  # a run that was resumed in the middle
    try:
        for number, _ in enumerate(loader):
            if number == 0:
                kill_one(loader)
    finally:
        loader.close()
    (number,) = re.findall(r"new ones go on with batch (\d)", caplog.text)
    assert int(number) >= 5  # the fourth has been delivered, others were ready


@pytest.mark.slow  # torch looks every five seconds whether its workers live
def test_workers_that_always_die_end_the_run_with_advice(tiny_data: Path):
    loader = loader_of(tiny_data, workers=1)
    loader.dataset.pipeline = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    try:
        with pytest.raises(DataError, match="died 4 times at one batch"):
            list(loader)
    finally:
        loader.close()


# ------------------------------------------------------------------ the data set


def test_replacement_depends_on_the_files_alone(data: Path):
    (data.parent / "images" / "train" / "3.png").write_bytes(b"")
    (data.parent / "images" / "train" / "4.png").write_bytes(b"")
    dataset = loader_of(data, workers=0, mosaic=0.0).dataset
    paths = [Path(path).stem for path in dataset.index.paths]
    assert not {"3", "4"} & set(paths)  # the index leaves out what is damaged at the start
    dataset.unreadable = "replace"
    lost = Path(dataset.index.paths[-1])
    lost.unlink()
    assert dataset.load(len(paths) - 1).path == dataset.index.paths[0]  # the list is a ring
    dataset.unreadable = "raise"
    with pytest.raises(ImageError, match=lost.name):
        dataset.load(len(paths) - 1)
