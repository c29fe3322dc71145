"""Checkpoints come back as they were, and a failed write costs nothing."""

from __future__ import annotations

import errno
import os
import resource
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.artifacts.checkpoint import load_checkpoint, save_checkpoint
from sightline.errors import CheckpointError, MissingFileError, OutputError


def content() -> dict:
    return {
        "model": OrderedDict(a=torch.arange(6.0).reshape(2, 3), n=torch.tensor(3)),
        "names": {0: "a", 1: "ü"},
        "args": {"lr0": 0.01, "data": Path("data.yaml"), "device": None, "classes": [0, 1], "time": (1, 2.5)},
        "metrics": {"map": np.float64(0.5), "curve": np.arange(3)},
        "run": {"optimizer": {"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}},
    }


def test_a_round_trip(tmp_path):
    path = tmp_path / "new folder" / "last.pt"
    save_checkpoint(path, content())
    found = load_checkpoint(path)
    assert found["format"] == "sightline"
    assert torch.equal(found["model"]["a"], torch.arange(6.0).reshape(2, 3))
    assert found["names"] == {0: "a", 1: "ü"}
    assert found["args"] == {"lr0": 0.01, "data": "data.yaml", "device": None, "classes": [0, 1], "time": (1, 2.5)}
    assert found["metrics"]["map"] == 0.5
    assert found["metrics"]["curve"].tolist() == [0, 1, 2]
    assert found["run"]["optimizer"]["state"][0]["step"] == 2
    assert torch.load(path, weights_only=True).keys() == found.keys()  # without any of our code


def test_an_optimizer_and_a_generator_go_on_from_it(tmp_path):
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    save_checkpoint(tmp_path / "c.pt", {"optimizer": optimizer.state_dict(), "random": torch.get_rng_state()})
    expected = torch.rand(3)
    found = load_checkpoint(tmp_path / "c.pt")
    torch.set_rng_state(found["random"])
    assert torch.equal(torch.rand(3), expected)
    again = torch.optim.AdamW(layer.parameters(), lr=0.5)
    again.load_state_dict(found["optimizer"])
    assert again.param_groups[0]["lr"] == 0.1


def test_a_view_is_written_without_its_base(tmp_path):
    base = torch.zeros(1_000_000)
    save_checkpoint(tmp_path / "c.pt", {"row": base[:10], "stretched": torch.ones(1).expand(4)})
    assert (tmp_path / "c.pt").stat().st_size < 10_000
    assert load_checkpoint(tmp_path / "c.pt")["stretched"].tolist() == [1, 1, 1, 1]


def test_tied_weights_are_written_once_and_keep_their_layout(tmp_path):
    weight = torch.nn.Parameter(torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last))
    save_checkpoint(tmp_path / "c.pt", {"a": weight, "b": weight})
    found = load_checkpoint(tmp_path / "c.pt")
    assert found["a"].data_ptr() == found["b"].data_ptr()
    assert found["a"].stride() == weight.stride()
    assert not found["a"].requires_grad


def test_objects_are_a_mistake_of_ours(tmp_path):
    with pytest.raises(TypeError, match=r"state\['args'\]\['x'\]\[1\] is a object"):
        save_checkpoint(tmp_path / "c.pt", {"args": {"x": [1, object()]}})
    assert list(tmp_path.iterdir()) == []


class FullDisk:
    """A file on a disk with room for a hundred bytes."""

    def __init__(self, file) -> None:
        self.file, self.left = file, 100

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        self.file.close()

    def write(self, data) -> int:
        self.left -= len(data)
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)


def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})
    real = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda *args, **kwargs: FullDisk(real(*args, **kwargs)))
    with pytest.raises(OutputError, match=r"last\.pt: No space left on device"):
        save_checkpoint(path, {"epoch": 2, "model": {"a": torch.zeros(1000)}})
    monkeypatch.undo()
    assert load_checkpoint(path)["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_a_limit_on_file_size_keeps_the_old_file(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(OutputError, match=r"last\.pt: File too large"):
            save_checkpoint(path, {"epoch": 2, "model": {"a": torch.zeros(1_000_000)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(path)["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        save_checkpoint(tmp_path / "file" / "last.pt", {"epoch": 1})


def test_damage_is_noticed_wherever_it_is(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"model": {"a": torch.arange(500.0)}, "epoch": 1})
    whole = path.read_bytes()
    for size in (0, 10, 300, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"last\.pt cannot be loaded as a checkpoint"):
            load_checkpoint(path)


def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path):
    path = tmp_path / "last.pt"
    values = torch.arange(500.0)
    save_checkpoint(path, {"model": {"a": values}, "epoch": 1})
    data = bytearray(path.read_bytes())
    data[data.index(values.numpy().tobytes()) + 999] ^= 4
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"last\.pt"):
        load_checkpoint(path)


def test_weights_of_others_are_no_checkpoint(tmp_path):
    torch.save({"model": {"a": torch.ones(1)}}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"w\.pt.*no checkpoint of a sightline run.*model=<file>"):
        load_checkpoint(tmp_path / "w.pt")


def test_a_missing_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere\.pt"):
        load_checkpoint(tmp_path / "nowhere.pt")
