"""Networks pickled as a whole by classes that exist only while the file is written."""

from __future__ import annotations

import pathlib
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from sightline.artifacts.archive import Unreadable
from sightline.artifacts.foreign import ForeignFile, PlainCopies, class_names, read_foreign
from sightline.artifacts.inert_pickle import read_pickle
from sightline.artifacts.inert_values import Record
from sightline.errors import CheckpointError


@pytest.fixture
def reference(monkeypatch):
    """A stand-in for the other program: modules that are gone again when the file is read."""
    tasks, utils = types.ModuleType("ultralytics.nn.tasks"), types.ModuleType("ultralytics.utils")
    packages = [types.ModuleType(name) for name in ("ultralytics", "ultralytics.nn")]

    class PoseModel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            activation = nn.SiLU()  # shared, as in real files
            self.model = nn.Sequential(
                nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), activation),
                nn.Sequential(nn.Linear(4, 2), activation),
            )
            self.register_buffer("grid", torch.arange(6.0).reshape(2, 3))
            self.register_buffer("cache", torch.zeros(3), persistent=False)
            self.register_buffer("absent", None)
            self.register_parameter("missing", None)
            self.tied = nn.Linear(4, 2)
            self.tied.weight = self.model[1][0].weight
            self.sliced = nn.Parameter(torch.arange(12.0).reshape(3, 4).t()[1:3])
            self.names = ["a", "b"]
            self.stride = torch.tensor([8.0, 16.0])
            self.yaml = {"nc": 2, "head": [[[1, 2], 1, "Pose", ["nc"]]]}
            self.forward_before = self.half  # a bound method, as folded models hold

    class Namespace(types.SimpleNamespace):
        pass

    PoseModel.__module__, PoseModel.__qualname__ = "ultralytics.nn.tasks", "PoseModel"
    Namespace.__module__, Namespace.__qualname__, Namespace.__name__ = (
        "ultralytics.utils",
        "IterableSimpleNamespace",
        "IterableSimpleNamespace",
    )
    tasks.PoseModel, utils.IterableSimpleNamespace = PoseModel, Namespace
    for module in (*packages, tasks, utils):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.manual_seed(0)
    yield PoseModel, Namespace
    monkeypatch.undo()


def write(path, content, **options) -> None:
    torch.save(content, path, **options)
    for name in [name for name in sys.modules if name.partition(".")[0] == "ultralytics"]:
        del sys.modules[name]


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_whole_network_comes_apart(reference, tmp_path, protocol):
    kind, namespace = reference
    model = kind().half()
    model.args = namespace(epochs=7, lr0=0.01)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    content = {
        "epoch": -1,
        "model": None,
        "ema": model,
        "train_metrics": {"fitness": np.float64(0.25), "count": np.int64(3)},
        "file": pathlib.PurePosixPath("runs/train"),
        "optimizer": {"state": {0: torch.ones(2)}},
        "date": "today",
    }
    write(tmp_path / "m.pt", content, pickle_protocol=protocol)
    found = read_foreign(tmp_path / "m.pt")

    assert list(found.state) == list(expected)
    assert "cache" not in found.state
    for name, value in expected.items():
        assert torch.equal(found.state[name], value.float() if value.is_floating_point() else value), name
        assert found.state[name].is_contiguous()
    assert found.state["tied.weight"] is found.state["model.1.0.weight"]
    assert found.class_name == "ultralytics.nn.tasks.PoseModel"
    assert found.names == {0: "a", 1: "b"}
    assert found.nc == 2
    assert found.task == "pose"
    assert found.args == {"epochs": 7, "lr0": 0.01}
    assert found.stride.tolist() == [8, 16]
    assert found.meta["train_metrics"] == {"fitness": 0.25, "count": 3}
    assert found.meta["file"] == "runs/train"
    assert found.meta["date"] == "today"
    assert "optimizer" not in found.meta


def test_the_average_goes_before_the_network_itself(reference, tmp_path):
    kind, _ = reference
    average, model = kind(), kind()
    expected = average.model[1][0].bias.detach().clone()
    write(tmp_path / "m.pt", {"model": model, "ema": average})
    assert torch.equal(read_foreign(tmp_path / "m.pt").state["model.1.0.bias"], expected)


def test_a_bare_network_is_one_too(reference, tmp_path):
    kind, _ = reference
    write(tmp_path / "m.pt", kind())
    assert read_foreign(tmp_path / "m.pt").task == "pose"


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
              torch.int8, torch.uint8, torch.bool]
)  # fmt: skip
def test_every_kind_of_number(tmp_path, dtype):
    values = {"plain": torch.tensor([[0, 1, 2], [3, 4, 5]]).to(dtype), "one": torch.tensor(1).to(dtype)}
    values["view"] = values["plain"].t()[1:]
    values["none"] = torch.empty(0, 3, dtype=dtype)
    torch.save(values, tmp_path / "t.pt")
    with ForeignFile(tmp_path / "t.pt") as file:
        for name, value in values.items():
            found = file.tensor(file.content[name])
            assert torch.equal(found, value.float() if dtype.is_floating_point else value)
            assert found.dtype == (torch.float32 if dtype.is_floating_point else dtype)


def test_a_tensor_with_attributes_is_a_tensor(tmp_path):
    weight = nn.Parameter(torch.ones(2))
    weight.note = "attributes travel in the pickle"
    torch.save({"w": weight}, tmp_path / "t.pt")
    with ForeignFile(tmp_path / "t.pt") as file:
        assert file.tensor(file.content["w"]).tolist() == [1, 1]


def test_ordinary_values_are_read_as_pickle_reads_them(tmp_path):
    import pickle

    value = {
        "a": [1, -2, 3.5, None, True, False, "ü", b"x", 2**40],
        (1, "k"): {"n": {}},
        3: (1, (2, 3), ()),
        "s": {1, 2},
    }
    for protocol in (2, 3, 4, 5):
        assert read_pickle(pickle.dumps(value, protocol), lambda key, size: None) == value


def test_objects_stay_records(tmp_path):
    import datetime
    import pickle

    found = read_pickle(pickle.dumps({"at": datetime.date(2026, 1, 2)}, 2), lambda key, size: None)
    assert isinstance(found["at"], Record)
    assert found["at"].name == "datetime.date"


def test_old_text_pickles_are_refused():
    import pickle

    with pytest.raises(Unreadable, match="instruction"):
        read_pickle(pickle.dumps([1], 0), lambda key, size: None)


def test_no_network_is_said(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "t.pt")
    with pytest.raises(CheckpointError, match=r"t\.pt holds no network"):
        read_foreign(tmp_path / "t.pt")


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (["a", "b"], {0: "a", 1: "b"}),
        ({"0": "a", 1: 5}, {0: "a", 1: "5"}),
        ({"a": 0}, None),
        ([], None),
        (None, None),
        ("ab", None),
    ],
)
def test_class_names(value, names):
    assert class_names(value) == names


def test_plain_keeps_what_is_plain():
    assert PlainCopies()({"a": (1, {2}), "b": Record("x"), "c": None}) == {"a": [1, [2]], "b": None, "c": None}


def test_all_plain_values_of_a_file_have_one_limit():
    plain, long_list = PlainCopies(), [1] * 60_000
    for _ in range(3):
        assert plain(long_list) == long_list
    with pytest.raises(Unreadable, match="without end"):
        plain(long_list)
