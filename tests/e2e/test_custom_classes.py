"""Checkpoints of classes that only one script has: what another script, in another folder, can do with them."""

from __future__ import annotations

from pathlib import Path

import pytest

import forked
from sightline.artifacts.checkpoint import load_checkpoint
from train.test_trainer import TINY

FAST = (
    "dict(imgsz=64, batch=4, epochs=1, workers=0, plots=False, amp=False, device='cpu', project='runs', name='run', "
    "exist_ok=True)"
)
HEAD = f"import sys\nfrom sightline import YOLO\nFAST = {FAST}\nTINY = {TINY!r}\nDATA = sys.argv[1]\n"

OWN_CLASSES = """
from sightline.losses.detect import v8DetectionLoss
from sightline.losses.end_to_end import E2ELoss
from sightline.models.network import DetectionModel
from sightline.train.detect import DetectionTrainer

class MyLoss(E2ELoss):
    pass

class MyModel(DetectionModel):
    def __init__(self, *args, factor=2.0, **named):
        super().__init__(*args, **named)
        self.factor = factor
    def init_criterion(self):
        return MyLoss(self, v8DetectionLoss)
    def predict(self, x):
        self.predicted = True
        return super().predict(x)

class MyTrainer(DetectionTrainer):
    def get_model(self, cfg=None, weights=None, verbose=True):
        model = MyModel(cfg, nc=self.data["nc"], names=self.data["names"], verbose=False)
        if weights is not None:
            model.load(weights)
        return model
"""

NET = """
import torch
from torch import nn

class MyNet(nn.Module):
    def __init__(self, width=8, nc=2):
        super().__init__()
        self.width, self.nc = width, nc
        self.names, self.stride = [str(i) for i in range(nc)], 8
        self.body = nn.Sequential(nn.Conv2d(3, width, 8, 8), nn.BatchNorm2d(width), nn.SiLU())
        self.out = nn.Conv2d(width, 4 + nc, 1)

    def forward(self, x):
        if isinstance(x, dict):
            return self.loss(x)
        raw = self.out(self.body(x)).flatten(2)
        if self.training:
            return raw
        return torch.cat([raw[:, :4].sigmoid() * x.shape[-1], raw[:, 4:].sigmoid()], 1), raw

    def loss(self, batch, preds=None):
        raw = self(batch["img"]) if preds is None else preds
        raw = raw[1] if isinstance(raw, tuple) else raw
        term = raw.square().mean()
        return term[None] * len(batch["img"]), {"square_loss": term.detach()}
"""


def run(folder: Path, code: str, *arguments: object, expect: int = 0) -> str:
    """What a script prints, both streams."""
    folder.mkdir(exist_ok=True, parents=True)
    script = folder / "script.py"
    script.write_text(HEAD + code)
    done = forked.run(script, *arguments, cwd=folder)
    output = done.stdout + done.stderr
    assert done.returncode == expect, output
    return " ".join(output.split())


@pytest.fixture(scope="module")
def weights(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights folder of a run whose trainer and network are classes of its script."""
    folder = tmp_path_factory.mktemp("trained")
    output = run(
        folder,
        OWN_CLASSES
        + "model = YOLO(TINY)\nmodel.train(trainer=MyTrainer, data=DATA, **FAST)\n"
        + "print('AFTER', type(model.model).__name__)\n",
        tiny_data,
    )
    assert "AFTER MyModel" in output
    assert "not at hand" not in output
    return folder / "runs/run/weights"


@pytest.mark.parametrize("file", ["best.pt", "last.pt"])
def test_another_script_uses_it_as_an_ordinary_network(weights: Path, tiny_data: Path, tmp_path: Path, file: str):
    output = run(
        tmp_path / "other",
        f"""
import numpy as np
model = YOLO(r"{weights / file}")
print("TYPE", type(model.model).__name__, list(model.names.values()))
print("MAP", model.val(data=DATA, imgsz=64, workers=0, plots=False, device="cpu").box.map >= 0)
print("FOUND", len(model(np.zeros((64, 64, 3), dtype=np.uint8), imgsz=64)))
model.train(data=DATA, **FAST)
print("TUNED", model.trainer.best.exists())
model.save("saved.pt")
print("AGAIN", type(YOLO("saved.pt").model).__name__)
""",
        tiny_data,
    )
    for said in ("TYPE DetectionModel ['red', 'blue']", "MAP True", "FOUND 1", "TUNED True", "AGAIN DetectionModel"):
        assert said in output
    assert output.count("its network was a MyModel of the script script.py, which is not at hand") == 1
    assert "Define MyModel in your script before you load to use it" in output
    assert "AttributeError" not in output


def test_a_script_that_has_the_class_gets_it(weights: Path, tmp_path: Path):
    output = run(
        tmp_path / "same",
        OWN_CLASSES
        + f"""
import numpy as np
model = YOLO(r"{weights / "best.pt"}")
print("TYPE", type(model.model).__name__, model.model.factor, model.model.init_criterion().__class__.__name__)
""",
        "",
    )
    assert "TYPE MyModel 2.0 MyLoss" in output
    assert "not at hand" not in output


def test_a_run_goes_on_with_and_without_the_classes(weights: Path, tiny_data: Path, tmp_path: Path):
    go_on = (
        f'model = YOLO(r"{weights / "last.pt"}")\n'
        "model.train({} data=DATA, resume=True, epochs=2, save_dir='on')\n"
        "print('ENDED', type(model.trainer.model).__name__, model.trainer.epoch + 1)\n"
    )
    plain = run(tmp_path / "plain", go_on.format(""), tiny_data)
    assert "ENDED DetectionModel 2" in plain
    assert "was trained with __main__:MyTrainer and goes on with sightline.train.detect:DetectionTrainer" in plain
    assert "train(trainer=MyTrainer, resume=True)" in plain
    own = run(tmp_path / "own", OWN_CLASSES + go_on.format("trainer=MyTrainer,"), tiny_data)
    assert "ENDED MyModel 2" in own
    assert "was trained with" not in own
    assert "not at hand" not in own


def test_a_class_of_a_module_beside_the_script_is_used(tiny_data: Path, tmp_path: Path):
    """Found by its recorded path, without an import in the script; fine-tuning keeps it."""
    train, other = tmp_path / "train", tmp_path / "other"
    for folder in (train, other):
        folder.mkdir()
        (folder / "mymodels.py").write_text(OWN_CLASSES)
    run(
        train,
        "from mymodels import MyModel\n"
        "model = YOLO(MyModel(TINY, nc=2, factor=5.0, verbose=False))\n"
        "model.train(data=DATA, **FAST)\nprint(type(model.model).__name__)\n",
        tiny_data,
    )
    code = f"""
import numpy as np
model = YOLO(r"{train / "runs/run/weights/best.pt"}")
model(np.zeros((64, 64, 3), dtype=np.uint8), imgsz=64)
print("TYPE", type(model.model).__module__, model.model.factor, model.predictor.model.network.predicted)
model.train(data=DATA, **FAST)
print("TUNED", type(model.trainer.model).__name__, model.trainer.model.factor)
"""
    output = run(other, code, tiny_data)
    assert "TYPE mymodels 5.0 True" in output
    assert "TUNED MyModel 5.0" in output
    assert "not at hand" not in output
    without = run(
        tmp_path / "without", code.splitlines()[2] + "\nprint('PLAIN', type(model.model).__name__)", tiny_data
    )
    assert "Put mymodels.py beside your script, or import mymodels before you load, to use it" in without
    assert "PLAIN DetectionModel" in without


def test_a_network_that_no_yaml_describes(tiny_data: Path, tmp_path: Path):
    """Trains, validates, predicts, resumes; elsewhere it is made again from its file, or the error says how."""
    train, other, without = (tmp_path / name for name in ("train", "other", "without"))
    for folder in (train, other):
        folder.mkdir()
        (folder / "net.py").write_text(NET)
    output = run(
        train,
        """
from net import MyNet
model = YOLO(MyNet(width=16))
model.train(data=DATA, **FAST)
print("AFTER", type(model.model).__name__, model.names)
""",
        tiny_data,
    )
    assert "AFTER MyNet {0: 'red', 1: 'blue'}" in output
    assert "train/square_loss" in (train / "runs/run/results.csv").read_text()
    best, last = train / "runs/run/weights/best.pt", train / "runs/run/weights/last.pt"
    recorded = load_checkpoint(best)["network"]
    assert (recorded["class"], recorded["arguments"]) == ("net:MyNet", {"width": 16, "nc": 2})
    use = f"""
import numpy as np
model = YOLO(r"{best}")
print("TYPE", type(model.model).__module__, model.model.width, model.names)
print("MAP", model.val(data=DATA, imgsz=64, workers=0, plots=False, device="cpu").box.map >= 0)
print("FOUND", len(model(np.zeros((64, 64, 3), dtype=np.uint8), imgsz=64)))
model.train(data=DATA, **FAST)
model.save("saved.pt")
print("AGAIN", YOLO("saved.pt").model.width)
goes_on = YOLO(r"{last}")
goes_on.train(data=DATA, resume=True, epochs=2, save_dir="on")
print("ENDED", type(goes_on.trainer.model).__name__, goes_on.trainer.epoch + 1)
"""
    output = run(other, use, tiny_data)
    for said in ("TYPE net 16 {0: 'red', 1: 'blue'}", "MAP True", "FOUND 1", "AGAIN 16", "ENDED MyNet 2"):
        assert said in output
    missing = run(without, use, tiny_data, expect=1)
    assert "best.pt holds a network of class net:MyNet made with MyNet(width=16, nc=2)" in missing
    assert "Put net.py beside your script, or define it and pass it: YOLO(MyNet(width=16, nc=2)).load(" in missing
    passed = run(
        without,
        NET + f'model = YOLO(MyNet(width=16)).load(r"{best}")\nmodel.train(data=DATA, **FAST)\nprint("PASSED")\n',
        tiny_data,
    )
    assert "PASSED" in passed
