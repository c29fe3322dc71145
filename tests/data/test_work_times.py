"""Reading and augmenting are told apart, whoever prepares the batches."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sightline.config.load import make_settings
from sightline.data import images
from sightline.data.loader import Loader, build_dataset, build_loader
from sightline.data.spec import load_dataset_spec
from sightline.data.work_times import KEY

COUNT = 8
SLOW = 0.01  # seconds


class SlowPipeline:
    """An augmentation that takes its time, around the usual ones."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        time.sleep(SLOW)
        return self.pipeline(*args, **kwargs)


class SlowReader(images.ImageReader):
    """A disk that takes its time; what is cached it is not asked for."""

    def load(self, i: int, *, shared: bool = False) -> Any:
        if self._store is None or self._store.get(i) is None:
            time.sleep(SLOW)
        return super().load(i, shared=shared)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("work")
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for i in range(COUNT):
        cv2.imwrite(str(root / "images" / f"{i}.png"), np.full((32, 32, 3), i, np.uint8))
        (root / "labels" / f"{i}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (root / "d.yaml").write_text("path: .\ntrain: images\nval: images\nnames: [a]\n")
    return root / "d.yaml"


def make(data: Path, *, slow: str, workers: int = 0, start_method: str | None = None, **settings: Any) -> Loader:
    options = {"data": str(data), "model": "yolo26n.yaml", "imgsz": 32, "mosaic": 0.0, **settings}
    dataset = build_dataset(make_settings("train", options), load_dataset_spec(data), mode="train", batch_size=4)
    if slow == "reading":
        dataset.reader.__class__ = SlowReader
    else:
        dataset.pipeline = SlowPipeline(dataset.pipeline)  # type: ignore[assignment]
    return build_loader(dataset, 4, shuffle=True, workers=workers, accelerator=True, start_method=start_method)


def epoch(loader: Loader) -> dict[str, float]:
    assert all(KEY not in batch for batch in loader)
    return loader.work_times.take()


WAYS = [(0, None), (2, "fork"), pytest.param(1, "spawn", marks=pytest.mark.slow)]


@pytest.mark.parametrize(("workers", "start_method"), WAYS)
@pytest.mark.parametrize("slow", ["reading", "augmenting"])
def test_what_is_slow_is_named(data: Path, slow: str, workers: int, start_method: str | None):
    loader = make(data, slow=slow, workers=workers, start_method=start_method)
    found = epoch(loader)
    loader.close()
    much, little = ("load", "augment") if slow == "reading" else ("augment", "load")
    assert found[much] >= COUNT * SLOW
    assert found[little] < found[much]
    assert loader.work_times.take() == {"load": 0.0, "augment": 0.0}  # taken


def test_what_a_cache_holds_is_not_read_again(data: Path):
    loader = make(data, slow="reading", cache="ram")
    first, second = epoch(loader), epoch(loader)
    loader.close()
    assert first["load"] >= COUNT * SLOW
    assert 0 < second["load"] < COUNT * SLOW / 2


def test_threads_do_not_count_each_others_work(data: Path):
    loaders = [make(data, slow="reading"), make(data, slow="augmenting")]
    threads = [threading.Thread(target=lambda loader=loader: list(loader)) for loader in loaders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reading, augmenting = (loader.work_times.take() for loader in loaders)
    assert reading["load"] >= COUNT * SLOW
    assert augmenting["load"] < COUNT * SLOW
    assert augmenting["augment"] >= COUNT * SLOW
