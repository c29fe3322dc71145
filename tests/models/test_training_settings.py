"""Settings that the file of a network carries: which, how they may be called, and that the rest is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.config.load import make_settings
from sightline.errors import ModelError, SettingsError
from sightline.facade import YOLO
from sightline.models.find import ZOO
from sightline.models.training_settings import settings_in_file
from sightline.train.detect import DetectionTrainer

ROWS = """
nc: 2
scales: {n: [1.0, 1.0, 16]}
backbone:
  - {block: Conv, channels: 8, kernel: 3, stride: 2}
  - {block: Conv, channels: 8, kernel: 3, stride: 2}
  - {block: Conv, channels: 8, kernel: 3, stride: 2}
head:
  - {block: Detect, from: [2]}
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(ROWS + text)
        return str(path)

    return write


def test_loss_train_and_top_level(write):
    name = write(
        "loss: {box_loss: 5.0, cls: 0.7, dfl_loss: 1.0, label_smoothing: 0.05}\n"
        "train: {lr0: 0.005, scale: 0.3, clip_grad_norm: 2.0}\n"
        "epochs: 300\nloss_schedule: [{until: 10, box: 2}, {}]\n"
    )
    assert settings_in_file(name) == {
        "box": 5.0, "cls": 0.7, "dfl": 1.0, "label_smoothing": 0.05, "lr0": 0.005, "scale": 0.3, "clip_grad": 2.0,
        "epochs": 300, "loss_schedule": [{"until": 10, "box": 2}, {}],
    }  # fmt: skip
    YOLO(name)  # and the network can be built


def test_they_are_in_force_below_what_the_user_says(write, tiny_data: Path, tmp_path: Path):
    name = write("loss: {box: 5.0}\nlr0: 0.005\ntrain: {momentum: 0.8}\n")
    preset = tmp_path / "preset.yaml"
    preset.write_text("lr0: 0.1\nmomentum: 0.1\ncls: 0.1\n")
    trainer = DetectionTrainer(
        overrides={"model": name, "data": str(tiny_data), "preset": str(preset), "momentum": 0.7, "device": "cpu"}
    )
    args = trainer.args
    assert (args.box, args.lr0, args.momentum, args.cls) == (5.0, 0.005, 0.7, 0.1)
    assert [args.origin(name) for name in ("box", "lr0", "momentum", "cls")] == [
        "model file", "model file", "code", "preset",
    ]  # fmt: skip
    assert not args.fill_auto("lr0", 1.0)  # `optimizer=auto` leaves it, too


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 5\n", r"mine\.yaml: epoch is no key .* Did you mean epochs"),
        ("end_to_end: true\n", r"end_to_end is no key .* Did you mean end2end"),
        ("loss: {bx: 1.0}\n", r"mine\.yaml: loss has 'bx'; it may have box, cls, dfl, pose, kobj, rle, box_loss"),
        ("loss: {loss: 1.0}\n", "loss has 'loss'"),
        ("loss: 3\n", r"loss is 3; it holds settings by name"),
        ("loss: {box: 1.0, box_loss: 2.0}\n", "both box and box_loss"),
        ("loss: {box: 1.0}\nbox: 2.0\n", "box is given twice, 1.0 and 2.0"),
        ("train: {epoch: 5}\n", r"mine\.yaml: train: 'epoch' is not a setting. Did you mean epochs=100"),
        ("train: {model: a.pt}\n", "model under train is no setting of training"),
        ("train: {vid_stride: 2}\n", "vid_stride under train is no setting of training"),
        ("vid_stride: 2\n", "vid_stride is no key"),
        ("train: {lr0: -1}\n", r"mine\.yaml: lr0=-1 .* is not allowed"),
        ("lr0: fast\n", r"mine\.yaml: lr0='fast'"),
    ],
)
def test_what_cannot_stand_there(write, tiny_data: Path, text: str, message: str):
    name = write(text)
    with pytest.raises((ModelError, SettingsError), match=message):
        DetectionTrainer(overrides={"model": name, "data": str(tiny_data), "device": "cpu"}).setup_model()


def test_both_places_may_agree(write):
    assert settings_in_file(write("loss: {box: 1.0}\nbox: 1.0\n")) == {"box": 1.0}


def test_from_the_facade(write, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(YOLO, "_train", lambda self, trainer: seen.append(trainer.args))
    YOLO(write("epochs: 7\ntrain: {imgsz: 96, batch: 2}\n")).train(data="shapes", batch=4)
    (settings,) = seen
    assert (settings.epochs, settings.imgsz, settings.batch) == (7, 96, 4)
    assert settings.origin("epochs") == "model file"


def test_weights_and_built_in_descriptions_carry_nothing():
    assert settings_in_file("best.pt") == {}
    assert settings_in_file("not-there.yaml") == {}  # whoever builds it says so
    for path in ZOO.glob("*.yaml"):
        assert settings_in_file(path.name) == {}


def test_descriptions_in_files_of_others_are_not_refused(caplog: pytest.LogCaptureFixture):
    from sightline.models.find import read_description
    from sightline.models.spec import read_spec

    data = {**read_description(ZOO / "yolo26.yaml"), "text_model": "x"}
    read_spec(data, scale="n")
    assert "text_model has no effect" in caplog.text
    assert make_settings("train", {"model": "yolo26n.yaml"}, in_model_file=settings_in_file).epochs == 100
