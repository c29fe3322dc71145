"""The largest batch that fits: the search on memories made up, and real probes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.backends.memory import MemoryMeter, is_out_of_memory
from sightline.errors import SettingValueError
from sightline.train import memory
from sightline.train.detect import DetectionTrainer
from train.test_trainer import make


class Machine:
    """Takes `base` and `each` image; runs out of memory above `size`."""

    def __init__(self, base: float, each: float, size: float, seconds: float = 0.01) -> None:
        self.base, self.each, self.size, self.seconds = base, each, size, seconds
        self.tried: list[int] = []

    def __call__(self, images: int) -> tuple[float, float]:
        self.tried.append(images)
        taken = self.base + self.each * images
        return (taken if taken <= self.size else math.inf), self.seconds * images


@pytest.mark.parametrize("each", [1.0, 3.0, 7.5, 40.0])
@pytest.mark.parametrize("base", [0.0, 30.0])
def test_what_is_found_fits_and_a_quarter_more_would_not(base: float, each: float):
    machine = Machine(base, each, size=2000)
    count, taken = memory.largest(machine, 1000, most=10_000)
    assert base + each * count <= 1000
    assert base + each * (count * 1.25 + 1) > 1000
    assert taken == pytest.approx(base + each * count, rel=0.1)
    assert len(machine.tried) <= 6


def test_memory_that_is_not_a_straight_line_is_not_believed():
    """Past 32 images it costs ten times as much: the line promises 190."""

    def bent(images: int) -> tuple[float, float]:
        return 50 + 5 * images + (0 if images <= 32 else 50 * (images - 32)), 0.0

    count, _ = memory.largest(bent, 1000, most=1000)
    assert 16 <= count <= 42
    assert bent(count)[0] <= 1000


def test_where_memory_runs_out_less_is_tried():
    machine = Machine(10, 1, size=60)  # the budget promises more than there is
    count, _ = memory.largest(machine, 1000, most=1000)
    assert 40 <= count <= 50


@pytest.mark.parametrize(("most", "expected"), [(1, 1), (3, 3), (12, 12)])
def test_never_more_images_than_there_are(most: int, expected: int):
    machine = Machine(0, 1, size=1e9)
    assert memory.largest(machine, 1e9, most)[0] == expected
    assert max(machine.tried) <= most


def test_a_step_that_takes_minutes_is_not_tried():
    machine = Machine(0, 1, size=1e9, seconds=10)
    count, _ = memory.largest(machine, 100, most=1000)
    assert max(machine.tried) <= 6
    assert 80 <= count <= 90


def test_nothing_fits():
    assert memory.largest(Machine(50, 60, size=1e9), 100, most=16) == (0, 110)


# ------------------------------------------------------------------ real steps


def small(data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, gib: float, **settings: Any) -> DetectionTrainer:
    """On a machine with so much free memory."""

    class Meter(MemoryMeter):
        def __init__(self, device: torch.device) -> None:
            super().__init__(device)
            self.free = int(gib * 2**30)

    monkeypatch.setattr(memory, "MemoryMeter", Meter)
    return make(data, folder, epochs=1, optimizer="SGD", val=False, **settings)


def test_a_run_finds_its_batch(tiny_data: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trainer = small(tiny_data, tmp_path, monkeypatch, 8.0, batch=-1, model=tiny_model)
    trainer.train()
    assert trainer.args.batch == trainer.batch_size == 8  # all images of the set
    assert trainer.args.origin("batch") == "auto"
    assert trainer.in_force["batch"] == "8, chosen for batch=-1"
    assert len(trainer.train_loader) == 1


def test_more_memory_more_images_and_the_probe_is_the_worst_case(
    tiny_data: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", logger="sightline")
    found = []
    for gib in (0.04, 0.1):
        trainer = small(tiny_data, tmp_path / str(gib), monkeypatch, gib, batch=0.8, imgsz=96, multi_scale=0.5)
        trainer.args.mosaic = 0.0
        trainer.model = trainer.get_model(tiny_model, verbose=False)
        trainer.set_model_attributes()
        found.append(trainer.auto_batch(max_num_obj=50, dataset_size=1000))
    assert 1 <= found[0] < found[1]
    worst = memory.worst_case(trainer, 50)
    # 96 · 1.5 + 16 is the end of the range, which is left out and goes down to a multiple of the stride.
    assert worst == memory.Worst(size=144, objects=50, validation_size=112)
    assert any("144 pixels, 50 objects" in r.getMessage() for r in caplog.records)


def test_the_most_crowded_images_are_counted(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(memory, "choose", lambda trainer, *, objects, images: asked.append((objects, images)) or 4)
    for settings in ({}, {"mosaic": 0.0}, {"mosaic_tiles": 9}, {"mixup": 0.5}):
        trainer = make(tiny_data, tmp_path, batch=-1, **settings)
        trainer.stride = 32
        trainer.auto_batch()
    assert asked == [(8, 8), (2, 8), (16, 8), (16, 8)]  # two objects an image, eight images


def test_where_not_even_one_image_fits_the_message_says_what_to_do(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trainer = small(tiny_data, tmp_path, monkeypatch, 0.001, batch=0.9)
    with pytest.raises(SettingValueError, match=r"batch=0.9: one image of 64 pixels with 8 objects takes") as caught:
        trainer.train()
    assert "imgsz" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_meter_sees_what_a_block_takes():
    meter = MemoryMeter(torch.device("cpu"))
    with meter.measure():
        block = torch.ones(64 * 2**20 // 4)
        del block
    assert 48 * 2**20 < meter.peak < 128 * 2**20


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: you tried to"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: BaseException, expected: bool):
    assert is_out_of_memory(error) is expected
