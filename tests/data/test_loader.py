from __future__ import annotations

import hashlib
import multiprocessing
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sightline.config.load import make_settings
from sightline.data.images import ImageError
from sightline.data.loader import build_dataset, build_loader, choose_workers
from sightline.data.repeat import RepeatFactors
from sightline.data.spec import load_dataset_spec

COUNT = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("loader")
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for i in range(COUNT):
        image = cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (64 - i, 40 + i))
        cv2.imwrite(str(root / "images" / f"{i}.png"), image)
        (root / "labels" / f"{i}.txt").write_text(f"0 0.5 0.5 0.{i % 7 + 2} 0.4\n1 0.3 0.3 0.2 0.2\n")
    (root / "d.yaml").write_text("path: .\ntrain: images\nval: images\nnames: [a, b]\n")
    return root / "d.yaml"


def make(data: Path, mode: str = "train", **settings):
    options = {"data": str(data), "model": "yolo26n.yaml", "imgsz": 64, "mixup": 0.3, "copy_paste": 0.3, **settings}
    return build_dataset(make_settings("train", options), load_dataset_spec(data), mode=mode, batch_size=4)


def fingerprint(loader, epochs=(0, 1), mixing=True) -> list[str]:
    """A hash of each batch: pixels, targets, names."""
    prints = []
    for epoch in epochs:
        loader.set_epoch(epoch, mixing)
        for batch in loader:
            digest = hashlib.sha256()
            for key in ("img", "cls", "bboxes", "batch_idx"):
                digest.update(batch[key].numpy().tobytes())
            digest.update(repr([batch[key] for key in ("im_file", "ori_shape", "resized_shape", "ratio_pad")]).encode())
            prints.append(digest.hexdigest())
    return prints


@pytest.fixture(scope="module")
def expected(data) -> list[str]:
    loader = build_loader(make(data), 4, shuffle=True, workers=0, seed=0)
    prints = fingerprint(loader)
    loader.close()
    assert len(set(prints)) == len(prints) == 6
    return prints


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("accelerator", [False, True])
def test_batches_do_not_depend_on_workers(data, expected, workers, accelerator, monkeypatch):
    monkeypatch.setattr("sightline.data.loader.usable_cores", lambda: 8)
    loader = build_loader(make(data), 4, shuffle=True, workers=workers, accelerator=accelerator)
    assert loader.workers == (min(workers, 3) if accelerator else 0)  # three batches
    try:
        assert fingerprint(loader) == expected
        assert fingerprint(loader) == expected  # a second time, with the same workers
    finally:
        loader.close()


def test_processes_that_start_afresh_bring_the_same_batches(data, expected):
    loader = build_loader(make(data), 4, shuffle=True, workers=1, accelerator=True, start_method="spawn")
    try:
        assert fingerprint(loader) == expected
    finally:
        loader.close()


def test_ranks_share_the_samples_of_one_process(data):
    """The global batch of 4 is the same images, with the same chance, on one rank or two."""
    whole = build_loader(make(data), 4, shuffle=True, workers=0)
    halves = [build_loader(make(data), 2, shuffle=True, workers=0, rank=r, world_size=2) for r in (0, 1)]
    for batch, *parts in zip(whole, *halves, strict=True):
        images = dict(zip(batch["im_file"], batch["img"], strict=True))
        for part in parts:
            for name, image in zip(part["im_file"], part["img"], strict=True):
                assert torch.equal(images.pop(name), image)
        assert not images


def test_repeated_images_do_not_depend_on_workers_or_ranks(data):
    def loader(batch: int, **options):
        dataset = make(data)
        dataset.repeat = RepeatFactors(np.linspace(1, 7 / 3, COUNT), np.ones(2))  # 20 samples
        return build_loader(dataset, batch, shuffle=True, **options)

    single, worker = loader(6, workers=0), loader(6, workers=2, accelerator=True)
    halves = [loader(3, workers=0, rank=r, world_size=2) for r in (0, 1)]
    assert fingerprint(single) == fingerprint(worker)
    for one in (single, worker, *halves):
        one.set_epoch(1)
    assert [len(batch["img"]) for batch in single] == [6, 6, 6, 2]
    for whole, left, right in zip(single, *halves, strict=True):
        together = {image.numpy().tobytes() for half in (left, right) for image in half["img"]}
        assert {image.numpy().tobytes() for image in whole["img"]} == together
        assert len(together) == len(whole["img"])  # copies of an image differ
    for one in (single, worker, *halves):
        one.close()


def test_closing_mosaic_needs_no_new_workers(data):
    loader = build_loader(make(data, copy_paste=0, mixup=0), 4, shuffle=True, workers=1, accelerator=True)
    reference = build_loader(make(data, copy_paste=0, mixup=0, mosaic=0.0), 4, shuffle=True, workers=0)
    try:
        with_mosaic = fingerprint(loader, epochs=[0])
        before = {process.pid for process in multiprocessing.active_children()}
        without = fingerprint(loader, epochs=[1], mixing=False)
        assert {process.pid for process in multiprocessing.active_children()} == before
        assert with_mosaic != without
        reference.set_epoch(1)
        for batch in reference:
            assert batch["img"].shape == (4, 3, 64, 64)
    finally:
        loader.close()


@pytest.mark.parametrize("accelerator", [False, True])
def test_close_ends_workers_and_leaves_nothing(data, accelerator):
    threads, processes = threading.active_count(), len(multiprocessing.active_children())
    opencv = cv2.getNumThreads()
    loader = build_loader(make(data), 4, shuffle=True, workers=2, accelerator=accelerator)
    for _ in loader:
        break  # in the middle of an epoch, with batches under way
    loader.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (
        len(multiprocessing.active_children()) > processes or threading.active_count() > threads
    ):
        time.sleep(0.02)
    assert len(multiprocessing.active_children()) == processes
    assert threading.active_count() <= threads
    assert cv2.getNumThreads() == opencv
    assert len(list(loader)) == 3  # and it can start again
    loader.close()
    loader.close()


def test_opencv_gets_its_threads_back_when_the_last_loader_closes(data):
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        first, second = (build_loader(make(data), 4, shuffle=True, workers=workers) for workers in (0, 1))
        list(first), list(second)
        assert cv2.getNumThreads() == 1
        first.close()
        first.close()
        assert cv2.getNumThreads() == 1
        second.close()
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_leaving_an_epoch_early_does_not_spill_into_the_next(data, expected):
    for accelerator in (False, True):
        loader = build_loader(make(data), 4, shuffle=True, workers=1, accelerator=accelerator)
        for _ in loader:
            break
        assert fingerprint(loader) == expected
        loader.close()


@pytest.mark.parametrize(("workers", "accelerator"), [(0, False), (1, False), (2, True)])
def test_an_image_that_breaks_is_named_without_a_workers_traceback(tmp_path, data, workers, accelerator):
    dataset = make(data, mosaic=0.0, copy_paste=0, mixup=0)
    dataset.unreadable = "raise"  # as outside of a run, which would replace it
    broken = tmp_path / "7.png"
    broken.write_bytes(b"\x89PNG broken")
    paths = list(dataset.reader.paths)
    dataset.reader.paths = [str(broken) if path.endswith("/7.png") else path for path in paths]
    loader = build_loader(dataset, 4, shuffle=True, workers=workers, accelerator=accelerator)
    try:
        with pytest.raises(ImageError, match=r"/7\.png") as caught:
            list(loader)
        assert "Traceback" not in str(caught.value)
        assert "worker" not in str(caught.value)
    finally:
        loader.close()


def test_rectangular_batches_come_whole(data):
    dataset = make(data, mode="val")
    loader = build_loader(dataset, 4, shuffle=False, workers=0)
    files = []
    for batch, shape in zip(loader, dataset.rect_batches.shapes, strict=True):
        assert batch["img"].shape[2:] == tuple(shape)
        files += batch["im_file"]
    assert sorted(files) == sorted(dataset.index.paths)
    ranks = [build_loader(dataset, 4, shuffle=False, workers=0, rank=r, world_size=2) for r in (0, 1)]
    assert [len(rank) for rank in ranks] == [2, 1]
    assert [name for rank in ranks for batch in rank for name in batch["im_file"]] == files


def test_a_data_set_smaller_than_a_batch(data):
    loader = build_loader(make(data, fraction=3), 16, shuffle=True, workers=8)
    assert [len(batch["im_file"]) for batch in loader] == [3]
    assert loader.workers == 0  # one batch: nothing to prepare ahead


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"workers": 0, "batches": 9, "accelerator": True}, 0),
        ({"workers": 8, "batches": 9, "accelerator": False}, 0),
        ({"workers": 8, "batches": 9, "accelerator": True, "cores": 16, "devices": 4}, 4),
        ({"workers": 8, "batches": 3, "accelerator": True, "cores": 16, "devices": 1}, 3),
        ({"workers": 2, "batches": 9, "accelerator": True, "cores": 16, "devices": 1}, 2),
        ({"workers": 8, "batches": 9, "accelerator": True, "cores": 2, "devices": 8}, 1),
        ({"workers": 8, "batches": 1, "accelerator": True, "cores": 8, "devices": 1}, 0),
    ],
)
def test_how_many_workers(arguments, expected):
    assert choose_workers(**arguments) == expected
