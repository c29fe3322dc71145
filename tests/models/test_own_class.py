"""A file says which class its network had. What that can, and above all cannot, make run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sightline import YOLO
from sightline.artifacts.checkpoint import load_checkpoint, save_checkpoint
from sightline.artifacts.weights_file import read_weights
from sightline.errors import ModelError, SettingValueError
from sightline.models.build import build_model
from sightline.models.network import DetectionModel
from sightline.models.origin import Origin, Recorded, origin_of, read_origin
from sightline.models.own_class import find_class
from sightline.train.detect import DetectionTrainer

TRAP = "from pathlib import Path\nPath(r'{}').write_text('ran')\n"
NETWORK = "from torch import nn\nclass Net(nn.Module):\n    def loss(self, batch, preds=None): ...\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python imports from, as that of a script is."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small() -> DetectionModel:
    return build_model("yolo26n.yaml", nc=2, names={0: "red", 1: "blue"})


# ------------------------------------------------------------------------------------------------- the rule


def test_a_module_that_defines_the_class_is_imported(folder: Path):
    (folder / "own_net_a.py").write_text(NETWORK)
    found = find_class(Origin("own_net_a:Net"))
    assert found.kind is sys.modules["own_net_a"].Net


@pytest.mark.parametrize("name", ["trap_b", "trap_pack.inner"])
def test_a_module_without_that_class_is_not_run(folder: Path, name: str):
    """Any script in the folder would run if naming it in a file were enough."""
    (folder / "trap_pack").mkdir()
    for file in ("trap_b.py", "trap_pack/__init__.py", "trap_pack/inner.py"):
        (folder / file).write_text(TRAP.format(folder / "mark") + "Net = print\n")
    found = find_class(Origin(f"{name}:Net"))
    assert found.kind is None
    assert "defines no class Net" in found.reason
    assert not (folder / "mark").exists()
    assert name not in sys.modules


def test_an_installed_module_is_not_imported(folder: Path):
    """Neither one of the standard library, nor one in a site-packages folder."""
    packages = folder / "site-packages"
    packages.mkdir()
    (packages / "installed_c.py").write_text(TRAP.format(folder / "mark") + NETWORK)
    sys.path.insert(0, str(packages))
    try:
        for module in ("installed_c", "antigravity"):
            assert module not in sys.modules
            assert "import it first" in find_class(Origin(f"{module}:Net")).reason
            assert module not in sys.modules
    finally:
        sys.path.remove(str(packages))
    assert not (folder / "mark").exists()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("torch.nn:Linear", "can be trained"),
        ("os:system", "no class"),
        ("subprocess:Popen", "can be trained"),
        ("net_that_is_not_there:Net", "no net_that_is_not_there.py"),
        ("__main__:NoSuchNet", "defines no NoSuchNet"),
        ("x:make.<locals>.Net", "inside a function"),
    ],
)
def test_other_things_are_refused(path: str, reason: str):
    found = find_class(Origin(path))
    assert found.kind is None
    assert reason in found.reason


def test_a_hostile_file_runs_nothing(folder: Path):
    """Its weights are used as they are, and the scripts around it stay untouched."""
    (folder / "wipe_disk.py").write_text(TRAP.format(folder / "mark"))
    YOLO(small()).save("best.pt")
    content = load_checkpoint("best.pt")
    content["network"]["class"] = "wipe_disk:Net"
    save_checkpoint("bad.pt", content)
    assert type(YOLO("bad.pt").model) is DetectionModel
    content["yaml"] = None
    save_checkpoint("bad.pt", content)
    with pytest.raises(ModelError, match=r"wipe_disk\.py defines no class Net"):
        YOLO("bad.pt")
    assert not (folder / "mark").exists()


@pytest.mark.parametrize(
    "value", [None, 3, {"class": 5}, {"class": "a b:c"}, {"class": "x:" + "y" * 999}, {"class": ":"}]
)
def test_nonsense_under_network_counts_as_nothing(value: Any):
    assert read_origin(value) is None


# ------------------------------------------------------------------------------------------------- what is recorded


class Plain(nn.Module):
    def __init__(self, width: int, *, deep: bool = False) -> None:
        super().__init__()
        self.width, self.deep = width, deep


class Renamed(Recorded):
    def __init__(self, width: int, *, kernels: tuple[int, ...] = (3, 5), layer: Any = None) -> None:
        super().__init__()
        self.channels = width * 2


def test_arguments_come_from_attributes_or_from_the_call():
    assert origin_of(Plain(3)).arguments == {"width": 3, "deep": False}
    assert origin_of(Renamed(3, kernels=(1,))).arguments == {"width": 3, "kernels": (1,)}
    unknown = Plain(3)
    del unknown.width
    assert "no plain attribute width" in origin_of(unknown).missing
    odd = origin_of(Renamed(3, layer=nn.ReLU()))
    assert odd.arguments is None
    assert "layer is a ReLU" in odd.missing
    assert origin_of(small()).is_own is False


# ------------------------------------------------------------------------------------------------- changed networks


class Gate(nn.Module):
    """In the place of a layer, with tensors of its own."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.inner = layer
        self.gain = nn.Parameter(torch.ones(1))
        self.i, self.f, self.type = layer.i, layer.f, "Gate"

    def forward(self, x: Any) -> Any:
        return self.inner(x) * self.gain


def gated() -> DetectionModel:
    network = small()
    network.model[2] = Gate(network.model[2])
    return network


def quiet() -> DetectionModel:
    """Another activation: no tensor tells."""
    network = small()
    network.model[0].act = nn.ReLU()
    return network


def boxed() -> DetectionModel:
    network = small()
    network.aux = nn.Sequential(nn.Conv2d(3, 4, 1))
    return network


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (gated, r"model\.2 is a .*test_own_class:Gate, where the description has a C3k2.*model\.2\.cv1"),
        (quiet, r"model\.0\.act is a ReLU, where the description has a SiLU"),
        (boxed, r"aux is a Sequential.*aux\.0\.weight"),
    ],
)
def test_a_network_that_was_changed_says_how_to_load_it(folder: Path, make: Any, said: str):
    """Built from its description alone it would compute something else, also where every tensor fits."""
    network = make()
    with torch.no_grad():
        network.model[0].bn.bias.fill_(0.5)
    YOLO(network).save("changed.pt")
    with pytest.raises(ModelError, match=rf"{said}.*YOLO\(network\)\.load\('changed\.pt'\)") as caught:
        YOLO("changed.pt")
    assert "changed after it was built" in str(caught.value)
    again = YOLO(make()).load("changed.pt")
    ours, theirs = again.model.state_dict(), network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_parts_beside_the_layers_without_tensors_do_no_harm(folder: Path):
    network = small()
    network.extra_loss = nn.BCEWithLogitsLoss()
    YOLO(network).save("fine.pt")
    assert type(YOLO("fine.pt").model) is DetectionModel


def test_a_changed_network_trains_as_it_is(folder: Path, tiny_data: Path):
    fast = {"imgsz": 64, "batch": 4, "epochs": 1, "workers": 0, "plots": False, "amp": False, "device": "cpu"}
    model = YOLO(gated())
    model.train(data=str(tiny_data), project="runs", name="run", **fast)
    assert isinstance(model.trainer.model.model[2], Gate)
    assert isinstance(model.model.model[2], Gate)
    assert not torch.equal(model.trainer.model.model[2].gain, torch.ones(1))
    with pytest.raises(SettingValueError, match="pretrained=False: the network DetectionModel can only train"):
        YOLO(gated()).train(data=str(tiny_data), pretrained=False, project="runs", name="two", **fast)
    wrong = gated()
    wrong.nc, wrong.names = 3, {0: "a", 1: "b", 2: "c"}
    with pytest.raises(ModelError, match=r"nc=3 classes, but the data has 2: red, blue"):
        YOLO(wrong).train(data=str(tiny_data), project="runs", name="three", **fast)


# ------------------------------------------------------------------------------------------------- other files


class PickledModel(DetectionModel):
    pass


def test_a_network_pickled_as_a_whole_is_read_without_its_class(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """As people save theirs with torch.save(model): the class may be of a `__main__` that is gone."""
    import __main__

    PickledModel.__module__, PickledModel.__qualname__ = "__main__", "PickledModel"
    monkeypatch.setattr(__main__, "PickledModel", PickledModel, raising=False)
    network = PickledModel("yolo26n.yaml", nc=2, verbose=False)
    torch.save({"model": network}, "theirs.pt")
    monkeypatch.delattr(__main__, "PickledModel")
    assert read_weights("theirs.pt").origin == Origin("__main__:PickledModel")
    model = YOLO("theirs.pt")
    assert type(model.model) is DetectionModel
    assert torch.equal(model.model.state_dict()["model.0.conv.weight"], network.state_dict()["model.0.conv.weight"])


# ------------------------------------------------------------------------------------------------- the states of a run


def test_states_of_callbacks_go_to_objects_of_their_class(tiny_data: Path, tmp_path: Path, caplog: Any):
    from sightline.train.resume import _restore_callbacks

    class Counter:
        def __init__(self) -> None:
            self.state: Any = None

        def load_state_dict(self, state: Any) -> None:
            self.state = state

    class Other(Counter):
        pass

    first, second, other = Counter(), Counter(), Other()
    where = f"{__name__}:test_states_of_callbacks_go_to_objects_of_their_class.<locals>."
    trainer = type(
        "T", (), {"objects": [other, first, second], "rank": 0, "args": type("A", (), {"resume": "last.pt"})}
    )
    states = [
        {"class": f"{where}Counter", "state": {"n": 1}},
        {"class": "gone:Callback", "state": {"n": 2}},
        {"class": f"{where}Counter", "state": {"n": 3}},
        {"class": "gone:Stateless", "state": {}},
    ]
    with caplog.at_level("WARNING"):
        _restore_callbacks(trainer, {"ranks": [{"callbacks": states}]})
    assert (first.state, second.state, other.state) == ({"n": 1}, {"n": 3}, None)
    assert "gone:Callback with a state" in caplog.text
    assert "Stateless" not in caplog.text


def test_a_loss_without_a_head_says_what_to_do():
    from sightline.losses.detect import v8DetectionLoss

    with pytest.raises(ModelError, match=r"model\[-1\]; Plain has none\. Give the network a loss"):
        v8DetectionLoss(Plain(3))


def test_a_network_of_ones_own_must_have_what_every_network_has():
    with pytest.raises(ModelError, match=r"Plain is not a network .* no attribute names .*, nc .*, stride .*, loss "):
        YOLO(Plain(3))


def test_get_model_that_gives_something_else_is_refused_before_training(tiny_data: Path, tmp_path: Path):
    class Trainer(DetectionTrainer):
        def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
            return Plain(3)

    with pytest.raises(ModelError, match="Plain is not a network of sightline"):
        YOLO("yolo26n.yaml").train(
            trainer=Trainer, data=str(tiny_data), project=str(tmp_path), device="cpu", imgsz=64, workers=0
        )
