"""Bad input of every kind we could think of: one message, the right exit code, no traceback, nothing left behind.

A case of bad_inputs.py says what is wrong and what the message must name: the file or setting, the value found, and
what is allowed or to be done. The working folder has a space and an umlaut in its name throughout.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from e2e.bad_inputs import CASES, NOWHERE, PREDICT, TRAIN, VAL, Bad, labels, write
from sightline.artifacts.checkpoint import load_checkpoint, save_checkpoint
from sightline.cli.main import main
from sightline.errors import (
    DataError,
    MissingFileError,
    ModelError,
    OutputError,
    SettingTypeError,
    SettingValueError,
    SightlineError,
    UnknownSettingError,
    UsageError,
)
from sightline.facade import YOLO
from sightline.models.build import build_model
from sightline.train.detect import DetectionTrainer

pytestmark = pytest.mark.e2e

# Keep a case short that goes on where it should have stopped.
SHORT = {
    "train": "imgsz=64 batch=4 epochs=1 workers=0 plots=False amp=False device=cpu",
    "val": "imgsz=64 workers=0 plots=False device=cpu",
    "predict": "imgsz=64 device=cpu",
}


# ------------------------------------------------------------------------------------------------- where it happens


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights files: of the two classes of the data, of three others, folded, of another task, …"""
    folder = tmp_path_factory.mktemp("weights")
    two = YOLO(build_model("yolo26n.yaml", nc=2, names={0: "red", 1: "blue"}))
    two.save(folder / "two.pt")
    YOLO(build_model("yolo26n.yaml", nc=3, names={0: "cat", 1: "dog", 2: "cow"})).save(folder / "three.pt")
    torch.save(two.model.state_dict(), folder / "tensors.pt")
    torch.save({"something.weight": torch.zeros(3)}, folder / "other.pt")
    save_checkpoint(folder / "segment.pt", {**load_checkpoint(folder / "two.pt"), "task": "segment"})
    two.fuse().save(folder / "folded.pt")
    (folder / "cut.pt").write_bytes((folder / "two.pt").read_bytes()[:20_000])
    return folder


@pytest.fixture
def place(tmp_path: Path, tiny_data: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: the tiny data set, `tiny.yaml`, links to the weights; no network, an empty cache."""
    here = tmp_path / "Größe 1"
    shutil.copytree(tiny_data.parent, here, ignore=shutil.ignore_patterns("*.cache"))
    for file in weights.iterdir():
        (here / file.name).symlink_to(file)
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SIGHTLINE_DATASETS", raising=False)
    monkeypatch.setenv("SIGHTLINE_ASSETS_URL", NOWHERE)
    monkeypatch.chdir(here)
    return here


def content(folder: Path) -> dict[str, bytes | None]:
    """Every file with its bytes, every folder with None; without the declared cache of labels."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if not path.name.endswith(".sightline.cache")
    }


def with_short(words: str) -> list[str]:
    """The words of a command, and short settings that they do not name."""
    given = words.split(" ") if words else []
    named = {word.partition("=")[0] for word in given}
    mode = next((word for word in given if word in SHORT), None)
    extra = SHORT[mode].split() if mode else []
    return [*given, *(word for word in extra if word.partition("=")[0] not in named)]


def test_there_are_enough_kinds():
    assert len({case.name for case in CASES}) == len(CASES) >= 40


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_one_message_and_leaves_nothing(case: Bad, place: Path, capsys: pytest.CaptureFixture[str]):
    if case.prepare is not None:
        case.prepare(place)
    before = content(place)
    code = main(with_short(case.words))
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    message = err[err.index("error: ") :]
    assert err.count("error: ") == 1
    assert [part for part in case.says if part not in message] == [], message
    assert code == case.code
    assert content(place) == before
    assert [path.name for path in place.parent.iterdir() if path.name != "cache"] == [place.name]


# ------------------------------------------------------------------------------------------------- full disks


def limited(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def command(words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "sightline", *with_short(words)],
        capture_output=True,
        text=True,
        env=environment,
        **options,
    )


def test_a_disk_that_is_full_at_the_first_checkpoint(place: Path):
    done = command(f"{TRAIN} name=run", preexec_fn=limited(1_000_000))
    assert done.returncode == 1
    assert "weights/best.pt: File too large" in done.stderr
    assert "free space" in done.stderr
    assert "Traceback" not in done.stderr
    left = [path.relative_to(place / "runs").as_posix() for path in (place / "runs").rglob("*") if path.is_file()]
    # Whole files, and no half of a checkpoint. (TensorBoard's are there where it is installed.)
    left = [name for name in left if "tfevents" not in name]
    assert sorted(left) == [
        f"detect/run/{name}" for name in ("args.yaml", "events.jsonl", "report.html", "results.csv")
    ]


def full_disk_from(monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> None:
    """No space left from the `count`-th file of this name on, after some of it was written."""
    seen = 0
    fdopen = os.fdopen

    class Full:
        def __init__(self, file: Any) -> None:
            self.file, self.written = file, 0

        def write(self, data: Any) -> int:
            self.written += len(data)
            if self.written > 10_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

        def __getattr__(self, attribute: str) -> Any:
            return getattr(self.file, attribute)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: Any) -> None:
            self.file.close()

    def opened(descriptor: int, *arguments: Any, **options: Any) -> Any:
        nonlocal seen
        file = fdopen(descriptor, *arguments, **options)
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if f".{name}." in path:
            seen += 1
            if seen >= count:
                return Full(file)
        return file

    monkeypatch.setattr("sightline.files.os.fdopen", opened)


def test_a_disk_that_fills_up_keeps_the_checkpoints_that_are_there(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    full_disk_from(monkeypatch, "last.pt", 2)
    assert main(with_short(f"{TRAIN} name=run epochs=3")) == 1
    err = capsys.readouterr().err
    assert "weights/last.pt: No space left on device" in err
    assert "free space" in err
    run = place / "runs/detect/run"
    assert load_checkpoint(run / "weights/last.pt")["epoch"] == 0  # of the epoch before, whole
    load_checkpoint(run / "weights/best.pt")
    assert not [path for path in run.rglob("*") if ".part" in path.name]


def test_a_disk_that_fills_up_while_predicting(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    rng = np.random.default_rng(0)  # noise: a picture of more than 10 kB
    noise = cv2.imencode(".png", rng.integers(0, 255, (200, 200, 3), dtype=np.uint8))[1].tobytes()
    write("a.png", noise)(place)
    full_disk_from(monkeypatch, "a.png", 1)
    assert main(with_short("predict model=two.pt source=a.png")) == 1
    err = capsys.readouterr().err
    assert "predict/a.png: No space left on device" in err
    assert "free space" in err
    assert not [path for path in (place / "runs").rglob("*") if path.is_file()]


# ------------------------------------------------------------------------------------------------- our own mistakes


def test_a_mistake_of_ours_shows_its_traceback(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("our fault")

    before = content(place)
    monkeypatch.setattr(DetectionTrainer, "preprocess_batch", broken)
    assert main(with_short(TRAIN)) == 70
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert "in broken" in err
    assert "ZeroDivisionError: our fault" in err
    assert "mistake in sightline" in err
    assert content(place) == before


def test_an_interrupted_run_says_so_and_tidies_up(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    before = content(place)
    monkeypatch.setattr(DetectionTrainer, "preprocess_batch", interrupted)
    assert main(with_short(TRAIN)) == 130
    err = capsys.readouterr().err
    assert "error: interrupted" in err
    assert "Traceback" not in err
    assert content(place) == before


def test_a_run_that_cannot_start_keeps_the_results_of_the_last_one(place: Path):
    write("runs/detect/train/weights/best.pt", "precious")(place)
    write("runs/detect/train/results.csv", "precious")(place)
    labels("7 0.5 0.5 0.2 0.2")(place)
    before = content(place)
    assert main(with_short(f"{TRAIN} exist_ok=True")) == 1
    assert content(place) == before


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (f"{TRAIN} epochs=-5", 2, "epochs=-5"),
        ("train model=yolo26n.yaml data=tinny.yaml", 2, "data=tinny.yaml"),
        (VAL.replace("two", "cut"), 1, "cut.pt"),
    ],
)
def test_the_installed_command_does_the_same(place: Path, words: str, code: int, says: str):
    before = content(place)
    done = command(words)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1  # one line, and nothing of torch's or OpenCV's
    assert content(place) == before


# ------------------------------------------------------------------------------------------------- from Python


class NotATrainer:
    """Callable, so it passes for a factory at first sight."""

    def __call__(self, **_: Any) -> None: ...


def model() -> YOLO:
    return YOLO("two.pt")


def picture(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.zeros(shape, dtype)


PYTHON: list[tuple[str, Callable[[], Any], type[SightlineError], type[Exception], tuple[str, ...]]] = [
    (
        "a trainer object",
        lambda: model().train(
            trainer=DetectionTrainer(overrides={"model": "yolo26n.yaml", "data": "tiny.yaml"}), data="tiny.yaml"
        ),
        SettingTypeError,
        TypeError,
        ("trainer=<", "object of DetectionTrainer", "trainer=DetectionTrainer"),
    ),
    (
        "a callable object as trainer",
        lambda: model().train(trainer=NotATrainer(), data="tiny.yaml"),
        SettingTypeError,
        TypeError,
        ("trainer=<", "NotATrainer", "Pass the class itself"),
    ),
    (
        "text as trainer",
        lambda: model().train(trainer="mine", data="tiny.yaml"),
        SettingTypeError,
        TypeError,
        ("trainer='mine'", "str", "Pass the class itself"),
    ),
    (
        "a class that is no trainer",
        lambda: model().train(trainer=dict, data="tiny.yaml"),
        SettingTypeError,
        TypeError,
        ("trainer=dict", "no method train", "DetectionTrainer"),
    ),
    (
        "a validator object",
        lambda: model().val(validator=object(), data="tiny.yaml"),
        SettingTypeError,
        TypeError,
        ("validator=<object", "Pass the class itself"),
    ),
    (
        "a class that is no validator",
        lambda: model().val(validator=dict, data="tiny.yaml"),
        SettingTypeError,
        TypeError,
        ("validator=dict", "__call__", "DetectionValidator"),
    ),
    (
        "a predictor object",
        lambda: model().predict("images/val", predictor=7),
        SettingTypeError,
        TypeError,
        ("predictor=7", "Pass the class itself"),
    ),
    (
        "text for a number",
        lambda: model().train(data="tiny.yaml", epochs="5"),
        SettingTypeError,
        TypeError,
        ("epochs='5' (str)", "whole number"),
    ),
    (
        "a number for a switch",
        lambda: model().train(data="tiny.yaml", cos_lr=1),
        SettingTypeError,
        TypeError,
        ("cos_lr=1 (int)", "True or False"),
    ),
    (
        "an unknown setting",
        lambda: model().train(data="tiny.yaml", epoch=5),
        UnknownSettingError,
        SyntaxError,
        ("'epoch'", "epochs=100"),
    ),
    (
        "a value out of range",
        lambda: model().val(data="tiny.yaml", iou=1.5),
        SettingValueError,
        ValueError,
        ("iou=1.5", "from 0 to 1"),
    ),
    (
        "a number for data",
        lambda: model().train(data=5),
        SettingTypeError,
        TypeError,
        ("data=5 (int)", "a file, a name or a dict"),
    ),
    (
        "a dictionary without val",
        lambda: model().train(data={"train": "images/train", "names": ["a"]}),
        DataError,
        RuntimeError,
        ("data dictionary", "no `val`", "images/val"),
    ),
    (
        "no transforms",
        lambda: model().train(data="tiny.yaml", augmentations=5),
        SettingTypeError,
        TypeError,
        ("augmentations=5", "list of transforms"),
    ),
    (
        "another model",
        lambda: model().train(data="tiny.yaml", model="yolo26s.yaml"),
        SettingValueError,
        ValueError,
        ("model=yolo26s.yaml", "holds two.pt", "another object"),
    ),
    ("no data", lambda: YOLO("yolo26n.yaml").val(), UsageError, Exception, ("val needs", "data=file.yaml")),
    ("no source", lambda: model()(), UsageError, Exception, ("predict needs a source", "an image, a folder")),
    ("a number as model", lambda: YOLO(5), SettingTypeError, TypeError, ("model=5 (int)", "yolo26n.yaml")),
    ("nothing as model", lambda: YOLO(None), SettingTypeError, TypeError, ("model=None", "yolo26n.yaml")),
    ("no name of a model", lambda: YOLO(""), SettingTypeError, TypeError, ("model=''", "yolo26n.yaml")),
    (
        "a module as model",
        lambda: YOLO(torch.nn.Linear(3, 3)),
        ModelError,
        ValueError,
        ("Linear", "no attribute", "build_model"),
    ),
    (
        "a task of later",
        lambda: YOLO("two.pt", task="segment"),
        SettingValueError,
        ValueError,
        ("task=segment", "There is: detect"),
    ),
    (
        "missing weights to load",
        lambda: model().load("x/none.pt"),
        MissingFileError,
        FileNotFoundError,
        ("x/none.pt", "does not exist"),
    ),
    ("a number to load", lambda: model().load(5), SettingTypeError, TypeError, ("weights=5 (int)", "a state dict")),
    (
        "an empty state dict",
        lambda: model().load({}),
        SettingTypeError,
        TypeError,
        ("weights", "is empty", "tensors by name"),
    ),
    (
        "words in a state dict",
        lambda: model().load({"model.0.conv.weight": "text"}),
        SettingTypeError,
        TypeError,
        ("model.0.conv.weight", "str", "tensors by name"),
    ),
    (
        "a state dict of something else",
        lambda: model().load({"a": torch.zeros(2)}),
        ModelError,
        ValueError,
        ("1 there", "There: a"),
    ),
    (
        "weights into a folded network",
        lambda: model().fuse().load("two.pt"),
        ModelError,
        ValueError,
        ("fuse()", "Make it again"),
    ),
    ("folded weights", lambda: model().load("folded.pt"), ModelError, ValueError, ("fuse()", "from before")),
    (
        "an unknown event",
        lambda: model().add_callback("on_train_strat", print),
        SettingValueError,
        ValueError,
        ("'on_train_strat'", "on_train_start"),
    ),
    (
        "no function as callback",
        lambda: model().add_callback("on_train_start", 5),
        SettingTypeError,
        TypeError,
        ("on_train_start", "5 (int)", "function"),
    ),
    (
        "an array of floats",
        lambda: model()(picture(64, 64, 3, dtype=np.float64)),
        SettingTypeError,
        TypeError,
        ("float64", "uint8", "astype"),
    ),
    (
        "an array of pictures",
        lambda: model()(picture(2, 64, 64, 3)),
        SettingValueError,
        ValueError,
        ("(2, 64, 64, 3)", "(H, W, 3)", "a list"),
    ),
    (
        "an array without pixels",
        lambda: model()(picture(0, 64, 3)),
        SettingValueError,
        ValueError,
        ("(0, 64, 3)", "(H, W, 3)"),
    ),
    (
        "an array of other channels",
        lambda: model()(picture(64, 64, 7)),
        SettingValueError,
        ValueError,
        ("(64, 64, 7)", "3 channels"),
    ),
    ("an empty list", lambda: model()([]), UsageError, FileNotFoundError, ("empty list",)),
    ("a list of numbers", lambda: model()([1, 2]), SettingTypeError, TypeError, ("item 0 is a int", "NumPy arrays")),
    ("a dictionary as source", lambda: model()({"a": 1}), SettingTypeError, TypeError, ("source is a dict", "a path")),
    (
        "a tensor of odd size",
        lambda: model()(torch.zeros(1, 3, 50, 50)),
        SettingValueError,
        ValueError,
        ("50x50", "multiples of 32"),
    ),
    (
        "a place that cannot be saved to",
        lambda: model().save("/proc/x/two.pt"),
        OutputError,
        OSError,
        ("/proc/x/two.pt", "may write to"),
    ),
]


@pytest.mark.parametrize(("name", "call", "kind", "built_in", "says"), PYTHON, ids=[case[0] for case in PYTHON])
def test_from_python(
    name: str,
    call: Callable[[], Any],
    kind: type[SightlineError],
    built_in: type[Exception],
    says: tuple[str, ...],
    place: Path,
):
    before = content(place)
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, built_in)
    assert [part for part in says if part not in str(caught.value)] == [], str(caught.value)
    assert content(place) == before


# ------------------------------------------------------------------------------------------------- what simply works


def test_names_with_spaces_and_other_letters_simply_work(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (place / "images/val/0.png").rename(place / "images/val/ein Bild (größer) 画像.PNG")
    (place / "labels/val/0.txt").rename(place / "labels/val/ein Bild (größer) 画像.txt")
    os.rename("tiny.yaml", "meine Daten.yaml")
    yaml = "data=meine Daten.yaml"
    short = SHORT["train"].split()
    assert main(["train", "model=yolo26n.yaml", yaml, "project=Läufe 1", "name=erster Lauf", *short]) == 0
    best = "Läufe 1/erster Lauf/weights/best.pt"
    assert load_checkpoint(place / best)["epoch"] == 0
    assert main(["val", f"model={best}", yaml, "project=Läufe 1", *SHORT["val"].split()]) == 0
    source = "source=images/val/ein Bild (größer) 画像.PNG"
    assert main(["predict", f"model={best}", source, "project=Läufe 1", "save_txt", "conf=0.0", "imgsz=64"]) == 0
    assert (place / "Läufe 1/predict/ein Bild (größer) 画像.PNG").is_file()
    assert (place / "Läufe 1/predict/labels/ein Bild (größer) 画像.txt").is_file()
    assert main(["train", "resume=Läufe 1/erster Lauf", "epochs=2"]) == 0
    assert load_checkpoint(place / best.replace("best", "last"))["epoch"] == 1
    assert "Traceback" not in capsys.readouterr().err


def test_suffixes_in_capitals_and_empty_label_files_simply_work(place: Path, capsys: pytest.CaptureFixture[str]):
    """Both kinds of suffix in one folder; an empty label file, a missing one, and one bad file among good ones."""
    for number, suffix in enumerate((".PNG", ".Jpg", ".JPEG", ".bmp", ".TIF")):
        pixels = cv2.imdecode(np.fromfile(place / f"images/train/{number}.png", np.uint8), cv2.IMREAD_COLOR)
        (place / f"images/train/{number}.png").unlink()
        cv2.imencode(suffix.lower(), pixels)[1].tofile(place / f"images/train/{number}{suffix}")
    (place / "labels/train/0.txt").write_text("")
    (place / "labels/train/1.txt").unlink()
    (place / "labels/train/2.txt").write_text("7 0.5 0.5 0.2 0.2\n")
    assert main(with_short(TRAIN)) == 0
    out, err = capsys.readouterr()
    assert "7 training and 4 validation images" in out
    assert "train: 7 images, 2 backgrounds, 1 corrupt" in err
    assert "labels/train/2.txt line 1: class 7" in err


def test_a_bad_picture_among_good_ones_is_skipped_and_counted(place: Path, capsys: pytest.CaptureFixture[str]):
    write("images/val/x.png", b"")(place)
    assert main(with_short(PREDICT)) == 0
    err = capsys.readouterr().err
    assert "skipped: Cannot read image images/val/x.png: the file is empty" in err
    assert "1 of 5 pictures could not be read" in err
    assert len(list((place / "runs/detect/predict").iterdir())) == 4
