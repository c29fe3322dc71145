"""Every kind of weights file gives the same state dict."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sightline.artifacts.checkpoint import save_checkpoint
from sightline.artifacts.weights_file import read_weights, strip_prefixes
from sightline.errors import CheckpointError, MissingFileError


def network() -> nn.Module:
    torch.manual_seed(0)
    root = nn.Module()
    root.model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return root


STATE = network().state_dict()


def same(found: dict[str, Tensor], expected: dict[str, Tensor] = STATE) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
        assert found[name].dtype == (torch.float32 if value.is_floating_point() else value.dtype)


@pytest.mark.parametrize("place", [None, "model", "model_state_dict", "state_dict", "ema"])
def test_a_state_dict_in_any_usual_place(tmp_path, place):
    content = STATE if place is None else {place: STATE, "epoch": 3, "names": ["a", "b"], "optimizer": {"lr": 1}}
    torch.save(content, tmp_path / "w.pt")
    found = read_weights(tmp_path / "w.pt")
    same(found.state)
    assert found.kind == "state_dict"
    if place is not None:
        assert found.meta == {"epoch": 3}
        assert found.names == {0: "a", 1: "b"}


def test_averaged_weights_go_first(tmp_path):
    other = {name: value + 1 for name, value in STATE.items()}
    torch.save({"model": other, "ema": {"module": STATE, "updates": 5}}, tmp_path / "w.pt")
    same(read_weights(tmp_path / "w.pt").state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "model.module."])
def test_prefixes_of_wrappers_go(tmp_path, prefix):
    torch.save({prefix + name: value for name, value in STATE.items()}, tmp_path / "w.pt")
    same(read_weights(tmp_path / "w.pt").state)


def test_the_inner_list_of_layers_gets_its_name_back(tmp_path):
    torch.save(network().model.state_dict(), tmp_path / "w.pt")
    same(read_weights(tmp_path / "w.pt").state)


def test_names_of_other_networks_stay():
    state = {"backbone.0.weight": torch.ones(1), "module.x": torch.ones(1)}
    assert list(strip_prefixes(state)) == list(state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_come_as_float32(tmp_path, dtype):
    cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in STATE.items()}
    torch.save(cast, tmp_path / "w.pt")
    same(read_weights(tmp_path / "w.pt").state, {k: v.float() if v.is_floating_point() else v for k, v in cast.items()})


def test_safetensors(tmp_path):
    save_file(
        {f"module.{name}": value for name, value in STATE.items()}, tmp_path / "w.safetensors", {"names": '["a"]'}
    )
    found = read_weights(tmp_path / "w.safetensors")
    same({name: found.state[name] for name in STATE})
    assert (found.kind, found.names) == ("safetensors", {0: "a"})


def test_our_own_file(tmp_path):
    content = {
        "version": "1",
        "model": STATE,
        "yaml": {"nc": 2},
        "names": {0: "a", 1: "b"},
        "nc": 2,
        "stride": torch.tensor([8.0]),
        "task": "detect",
        "args": {"lr0": 0.1, "data": None},
        "epoch": 4,
        "run": {"optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}},
    }
    save_checkpoint(tmp_path / "best.pt", content)
    found = read_weights(tmp_path / "best.pt")
    same(found.state)
    assert (found.kind, found.yaml, found.nc, found.task) == ("sightline", {"nc": 2}, 2, "detect")
    assert found.names == {0: "a", 1: "b"}
    assert found.args == {"lr0": 0.1, "data": None}
    assert found.stride.tolist() == [8]
    assert found.meta == {"format": "sightline", "version": "1", "epoch": 4}


def test_reading_leaves_the_file_alone_and_the_tensors_are_ours(tmp_path):
    path = tmp_path / "Gewichte für später.pt"
    torch.save(STATE, path)
    before = path.read_bytes()
    found = read_weights(path)
    for value in found.state.values():
        value.add_(1)
    assert path.read_bytes() == before
    same(read_weights(path).state)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"epoch": 3, "model": "yolo26n"}, "no weights.*'epoch', 'model'"),
        ([1, 2], "holds a list"),
        ({}, "no weights"),
        (torch.ones(3), "holds a TensorRecord|no weights"),
    ],
)
def test_files_without_weights(tmp_path, content, reason):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=rf"w\.pt cannot be used as weights: .*({reason}).*Allowed"):
        read_weights(tmp_path / "w.pt")


def test_files_of_before_zip(tmp_path):
    torch.save(STATE, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"w\.pt.*before version 1\.6.*save"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\xff" * 8 + b"{}", (10**6).to_bytes(8, "little") + b"{}"])
def test_damaged_safetensors(tmp_path, data):
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"w\.safetensors cannot be used as weights"):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_missing_file(tmp_path, name):
    with pytest.raises(MissingFileError, match=name):
        read_weights(tmp_path / name)
