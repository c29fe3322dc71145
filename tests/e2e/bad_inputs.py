"""What can be wrong with a request, a model, a data set, a folder or a source: the cases of test_bad_inputs.py."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

NOWHERE = "http://127.0.0.1:9"  # nobody listens there

# ------------------------------------------------------------------------------------------------- preparations

Prepare = Callable[[Path], Any]


def write(name: str, text: str | bytes) -> Prepare:
    def prepare(here: Path) -> None:
        file = here / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    return prepare


def both(*steps: Prepare) -> Prepare:
    return lambda here: [step(here) for step in steps]


def folder(name: str) -> Prepare:
    return lambda here: (here / name).mkdir()


def every(pattern: str, text: str | bytes) -> Prepare:
    """The same content in every file of a pattern."""

    def prepare(here: Path) -> None:
        for file in here.glob(pattern):
            file.write_bytes(text if isinstance(text, bytes) else text.encode())

    return prepare


def labels(text: str, split: str = "*") -> Prepare:
    return every(f"labels/{split}/*.txt", text)


def described(text: str) -> Prepare:
    """Another description of the same images, `mine.yaml`."""
    return write("mine.yaml", text)


def broken_inside(here: Path) -> None:
    """A picture that is whole but for what its pixels are packed into, checksum included: only decoding shows it."""
    file = here / "images/train/3.png"
    whole = file.read_bytes()
    head, tail = whole[:33], whole[-12:]  # signature and IHDR; IEND
    pixels = b"IDAT" + bytes(300)
    file.write_bytes(head + (300).to_bytes(4, "big") + pixels + zlib.crc32(pixels).to_bytes(4, "big") + tail)


def remove_labels(here: Path) -> None:
    shutil.rmtree(here / "labels")


def broken_zip(here: Path) -> None:
    with zipfile.ZipFile(here / "mine.zip", "w") as archive:
        archive.writestr("mine.yaml", "names: [a]\n" * 50)
    whole = (here / "mine.zip").read_bytes()
    (here / "mine.zip").write_bytes(whole[: len(whole) // 2])


# ------------------------------------------------------------------------------------------------- the cases


@dataclass(frozen=True)
class Bad:
    """One kind of bad input.

    says: parts of the message: file or setting, value found, what is allowed or to be done.
    """

    name: str
    words: str
    says: tuple[str, ...]
    code: int = 2
    prepare: Prepare | None = None


TRAIN = "train model=yolo26n.yaml data=tiny.yaml"
TUNE = "tune model=yolo26n.yaml data=tiny.yaml"
DATA = "train model=yolo26n.yaml data=mine.yaml"
VAL = "val model=two.pt data=tiny.yaml"
PREDICT = "predict model=two.pt source=images/val"
SPLITS = "train: images/train\nval: images/val\n"
CLASSES = "names 2 classes (0-1)"

REQUEST = [
    Bad(
        "a batch of one pixel",
        f"{TRAIN} batch=7 imgsz=32",  # of eight images one is left over
        ("imgsz=32 and batch=7", "one image", "imgsz=64"),
    ),
    Bad("settings file too deep", "train cfg=mine.yaml", ("mine.yaml", "too deeply"), prepare=described("[" * 3000)),
    Bad("no mode", "", ("No mode", "train, val, predict", "sightline train")),
    Bad("misspelt mode", "trian model=yolo26n.yaml data=tiny.yaml", ("'trian'", "Did you mean train?")),
    Bad("mode of later", "export model=two.pt", ("'export'", "not in sightline yet", "train, val, predict")),
    Bad("two modes", "train val model=two.pt data=tiny.yaml", ("train and val", "Keep one")),
    Bad("task of later", "segment train model=yolo26n.yaml data=tiny.yaml", ("'segment'", "Allowed: detect")),
    Bad("train without data", "train model=yolo26n.yaml", ("train needs data=", "data=shapes")),
    Bad("train without model", "train data=tiny.yaml", ("train needs model=", "model=yolo26n.yaml")),
    Bad("val without data", "val model=two.pt", ("val needs data=", "sightline val")),
    Bad("predict without source", "predict model=two.pt", ("predict needs source=", "source=photo.jpg")),
    Bad("unknown setting", f"{TRAIN} epoch=5", ("'epoch'", "Did you mean epochs=100")),
    Bad("setting of later", f"{TRAIN} mask_ratio=2", ("mask_ratio=2", "not in sightline yet", "segmentation")),
    Bad("negative epochs", f"{TRAIN} epochs=-5", ("epochs=-5", "at least 1", "default is 100")),
    Bad("text for a number", f"{TRAIN} epochs=five", ("epochs='five'", "whole number", "at least 1")),
    Bad("number out of range", f"{TRAIN} lr0=-0.1", ("lr0=-0.1", "from 0 to 1")),
    Bad("number that is none", f"{TRAIN} lr0=nan", ("lr0='nan'", "from 0 to 1")),
    Bad("tune without data", "tune model=yolo26n.yaml", ("tune needs data=", "sightline tune")),
    Bad("tune no trials", f"{TUNE} trials=0", ("trials=0", "whole number from 1")),
    Bad("tune by a grid", f"{TUNE} method=grid", ("method=grid", "tpe or random or evolve")),
    Bad("tune on half a GPU", f"{TUNE} gpu_per_trial=0.5", ("gpu_per_trial=0.5", "engine=ray")),
    Bad("space is not there", f"{TUNE} space=mine.yaml", ("space=mine.yaml", "no such file", "lr0: {low")),
    Bad(
        "space misspelt",
        f"{TUNE} space=mine.yaml",
        ("mine.yaml line 2", "'momentun'", "Did you mean momentum=0.937"),
        prepare=described("lr0: {factor: 10}\nmomentun: {low: 0.1, high: 0.9}\n"),
    ),
    Bad(
        "space upside down",
        f"{TUNE} space=mine.yaml",
        ("mine.yaml line 1", "low=0.1", "high=0.01"),
        prepare=described("lr0: {low: 0.1, high: 0.01}\n"),
    ),
    Bad(
        "space of what is set",
        f"{TUNE} space=mine.yaml lr0=0.02",
        ("lr0=0.02 (command line)", "in the space as well", "Leave out one"),
        prepare=described("lr0: {factor: 10}\n"),
    ),
    Bad(
        "space not in force",
        f"{TUNE} space=mine.yaml imgsz=64 epochs=5",
        ("pose: the loss of this network has no such term", "close_mosaic=10 leaves no epoch", "Take it out"),
        prepare=described("pose: {low: 1, high: 20}\nmosaic: {low: 0, high: 1}\n"),
    ),
    Bad("no study there", "tune resume=nowhere", ("resume=nowhere", "study.json", "no study")),
    Bad("no size", f"{TRAIN} imgsz=0", ("imgsz=0", "1 to 32768")),
    Bad("no batch", f"{TRAIN} batch=0", ("batch=0", "whole number from 1")),
    Bad("negative batch", f"{TRAIN} batch=-2", ("batch=-2", "whole number from 1")),
    Bad("unknown optimizer", f"{TRAIN} optimizer=adamx", ("optimizer='adamx'", "AdamW")),
    Bad("unknown device", f"{TRAIN} device=banana", ("device='banana'", "cpu, mps, cuda")),
    Bad("device that is not there", f"{TRAIN} device=99", ("device=99", "CUDA device", "device=cpu")),
    Bad("negative workers", f"{TRAIN} workers=-1", ("workers=-1", "from 0 to 1024")),
    Bad("nothing of the data", f"{TRAIN} fraction=0", ("fraction=0", "above 0 to 1")),
    Bad("negative class", f"{TRAIN} classes=-1", ("classes=-1", "class number from 0")),
    Bad("unknown cache", f"{TRAIN} cache=floppy", ("cache='floppy'", "ram, disk")),
    Bad("unknown split", f"{VAL} split=dev", ("split='dev'", "train or val or test")),
    Bad("settings at odds", f"{TRAIN} save=False save_period=2", ("save_period=2", "save=False", "set save=True")),
    Bad("given twice", f"{TRAIN} lr0=0.1 lr0=0.2", ("lr0", "0.1 and 0.2", "Keep one")),
    Bad("no value", "train model= data=tiny.yaml", ("'model='", "no value", "model=value")),
    Bad("open bracket", f"{TRAIN} classes=[0", ("classes=[0", "Close them")),
    Bad("conf out of range", f"{PREDICT} conf=7", ("conf=7", "from 0 to 1")),
    Bad("missing settings file", "train cfg=none.yaml", ("cfg=none.yaml", "no such file")),
    Bad(
        "wrong key in a settings file",
        "train cfg=mine.yaml",
        ("mine.yaml", "'epoch'", "epochs=100"),
        prepare=described("model: yolo26n.yaml\nepoch: 3\n"),
    ),
    Bad(
        "settings file of another shape",
        "train cfg=mine.yaml",
        ("mine.yaml", "a list", "setting: value"),
        prepare=described("- epochs\n- 3\n"),
    ),
]

MODEL = [
    Bad(
        "model of an impossible name",
        f"train model={'x' * 300}.yaml data=tiny.yaml",
        ("xxx.yaml", "built in are"),
    ),
    Bad("weights of an impossible name", VAL.replace("two", "x/" + "x" * 300), ("xxx.pt", "does not exist", "Correct")),
    Bad(
        "description too deep",
        "train model=mine.yaml data=tiny.yaml",
        ("mine.yaml", "too deeply"),
        1,
        described("[" * 3000),
    ),
    Bad("unknown model", "train model=yolo27n.yaml data=tiny.yaml", ("'yolo27n.yaml'", "Did you mean", "yolo26n.yaml")),
    Bad("unknown size", "train model=yolo26q.yaml data=tiny.yaml", ("'yolo26q.yaml'", "Did you mean", "yolo26n.yaml")),
    Bad("model without suffix", "train model=yolo26n data=tiny.yaml", ("yolo26n does not exist", "yolo26n.yaml")),
    Bad(
        "unknown block",
        "train model=mine.yaml data=tiny.yaml",
        ("mine.yaml: backbone row 1", "'Konv'", "Did you mean Conv"),
        1,
        described("nc: 2\nbackbone:\n  - [-1, 1, Konv, [64, 3, 2]]\nhead:\n  - [[0], 1, Detect, [nc]]\n"),
    ),
    Bad(
        "description that is no YAML",
        "train model=mine.yaml data=tiny.yaml",
        ("mine.yaml line 2", "no YAML", "expected"),
        1,
        described("nc: [1, 2\nhead: {"),
    ),
    Bad(
        "empty description",
        "train model=mine.yaml data=tiny.yaml",
        ("mine.yaml", "nothing", "backbone and head"),
        1,
        described(""),
    ),
    Bad(
        "missing weights", f"{VAL.replace('two', 'runs/x/best')}", ("runs/x/best.pt does not exist", "Correct the path")
    ),
    Bad("empty weights", VAL.replace("two", "mine"), ("mine.pt", "is empty", "copy"), 1, write("mine.pt", b"")),
    Bad("cut weights", VAL.replace("two", "cut"), ("cut.pt", "incomplete", "download it again"), 1),
    Bad(
        "weights of noise",
        VAL.replace("two", "mine"),
        ("mine.pt", "b'no zip", "of another kind"),
        1,
        write("mine.pt", b"no zip file " * 99),
    ),
    Bad(
        "a picture as model",
        "train model=images/val/0.png data=tiny.yaml",
        ("0.png", "does not begin as a zip file", "Allowed: .pt"),
        1,
    ),
    Bad("a folder as model", "val model=images data=tiny.yaml", ("images is a folder", "images/best.pt")),
    Bad(
        "weights of another task", VAL.replace("two", "segment"), ("segment.pt", "task=segment", "There is: detect"), 1
    ),
    Bad(
        "training from weights of another task",
        "train model=segment.pt data=tiny.yaml",
        ("segment.pt", "task=segment", "There is: detect"),
        1,
    ),
    Bad("tensors without a network", VAL.replace("two", "tensors"), ("tensors.pt", "tensors only", ".load("), 1),
    Bad(
        "damaged safetensors",
        "val model=mine.safetensors data=tiny.yaml",
        ("mine.safetensors", "no safetensors file", "copy"),
        1,
        write("mine.safetensors", b"x" * 100),
    ),
    Bad(
        "released weights without a network",
        "train model=yolo26n.pt data=tiny.yaml",
        (f"{NOWHERE}/yolo26n.pt", "refused", "train from scratch with model=yolo26n.yaml"),
        1,
    ),
    Bad(
        "pretrained that is not there",
        f"{TRAIN} pretrained=x/none.pt",
        ("x/none.pt does not exist", "Correct the path"),
    ),
    Bad("pretrained of something else", f"{TRAIN} pretrained=other.pt", ("other.pt", "fits model=yolo26n.yaml"), 1),
    Bad("training a folded network", "train model=folded.pt data=tiny.yaml", ("folded.pt", "fuse()", "Start from"), 1),
    Bad("freezing what is not there", f"{TRAIN} freeze=999", ("freeze=999", "'model.24'", "Layers are 0–23")),
    Bad("freezing everything", f"{TRAIN} freeze=24", ("freeze=24", "nothing to train", "Freeze fewer"), 1),
    Bad("a layer that is misspelt", f"{TRAIN} freeze=backbon", ("freeze=backbon", "'model.backbon'", "backbone and")),
    Bad("thawing without freezing", f"{TRAIN} unfreeze_epoch=1", ("unfreeze_epoch=1", "freezes nothing", "freeze=")),
    Bad(
        "thawing after the end",
        f"{TRAIN} freeze=2 unfreeze_epoch=500",
        ("unfreeze_epoch=500", "a run of one epoch", "Leave it out"),
    ),
    Bad(
        "rates for nothing", f"{TRAIN} lr_groups={{modle:0.1}}", ("lr_groups=", "'modle' is found in no parameter name")
    ),
    Bad("a rate of zero", f"{TRAIN} lr_groups={{cv3:0}}", ("lr_groups=", "freeze='regex:cv3'")),
    Bad("two clipping norms", f"{TRAIN} clip_grad=1 clip_grad_norm=2", ("clip_grad_norm is another name", "keep one")),
    Bad(
        "a kernel that CPUs have not",
        f"{TRAIN} attention_kernel=efficient",
        ("attention_kernel=efficient cannot", "on cpu", "Allowed here: attention_kernel=auto"),
    ),
    Bad("no average but its decay", f"{TRAIN} ema=False ema_decay=0.9", ("ema=False", "ema_decay=0.9", "leave one")),
    Bad("nothing to resume", "train resume=True", ("resume=True", "no last.pt", "resume=runs/detect/train")),
    Bad("resume from nowhere", "train resume=x/last.pt", ("resume=x/last.pt", "no such file", "weights/last.pt")),
    Bad("resume from weights alone", "train resume=two.pt", ("two.pt", "weights only", "Resume from last.pt"), 1),
    Bad("resume from a YAML file", "train resume=tiny.yaml", ("resume=tiny.yaml", "no checkpoint", "last.pt of a run")),
]

DESCRIPTION = [
    Bad(
        "data of an impossible name", VAL.replace("tiny", "x" * 300), ("xxx.yaml", "no such file", "Built-in data sets")
    ),
    Bad("missing data", "train model=yolo26n.yaml data=tinny.yaml", ("data=tinny.yaml", "no such file", "tiny.yaml")),
    Bad("data in a missing folder", VAL.replace("tiny", "x/tiny"), ("data=x/tiny.yaml", "folder x does not exist")),
    Bad("data that is no YAML", DATA, ("mine.yaml", "not valid YAML", "expected"), 1, described("train: [a\n")),
    Bad(
        "misspelt key",
        DATA,
        ("mine.yaml", "no `train`", "`trian`", "images/train"),
        1,
        described(SPLITS.replace("train:", "trian:") + "names: [a, b]"),
    ),
    Bad("no names", DATA, ("mine.yaml", "neither `names` nor `nc`", "Add `names:`"), 1, described(SPLITS)),
    Bad(
        "other count of names",
        DATA,
        ("mine.yaml", "`nc` is 3", "2 classes", "correct one"),
        1,
        described(SPLITS + "nc: 3\nnames: [a, b]"),
    ),
    Bad(
        "gap in the names",
        DATA,
        ("mine.yaml", "0 … 1 without a gap", "found 0, 2"),
        1,
        described(SPLITS + "names: {0: a, 2: b}"),
    ),
    Bad(
        "no channels",
        DATA,
        ("mine.yaml", "`channels` is 0", "1 (grey), 3"),
        1,
        described(SPLITS + "names: [a, b]\nchannels: 0"),
    ),
    Bad(
        "a number for a folder",
        DATA,
        ("mine.yaml", "`train` is int (5)", "text or a list"),
        1,
        described("train: 5\nval: images/val\nnames: [a, b]"),
    ),
    Bad("empty data", DATA, ("mine.yaml", "nothing", "key: value"), 1, described("")),
    Bad("data in bytes", DATA, ("mine.yaml", "not UTF-8", "byte 0"), 1, write("mine.yaml", b"\xff\xfe\x00\x81")),
    Bad(
        "a picture as data", VAL.replace("tiny.yaml", "images/val/0.png"), ("0.png", ".png file", "YAML, zip or tar"), 1
    ),
    Bad(
        "a folder without YAML as data", VAL.replace("tiny.yaml", "images"), ("data=images", "one YAML file", "none"), 1
    ),
    Bad(
        "missing training images",
        DATA,
        ("mine.yaml: train:", "images/none does not exist", "looked up"),
        1,
        described("train: images/none\nval: images/val\nnames: [a, b]"),
    ),
    Bad(
        "missing validation images",
        DATA,
        ("mine.yaml: val:", "images/none does not exist", "looked up"),
        1,
        described("train: images/train\nval: images/none\nnames: [a, b]"),
    ),
    Bad("a split that is not there", f"{VAL} split=test", ("tiny.yaml", "split=test", "it has train, val"), 1),
    Bad(
        "folder without images",
        DATA,
        ("Größe 1/empty", "No image", "jpg"),
        1,
        both(folder("empty"), described("train: empty\nval: images/val\nnames: [a, b]")),
    ),
    Bad(
        "code in a description",
        DATA,
        ("mine.yaml", "does not execute", "address of an archive"),
        1,
        described("path: none\n" + SPLITS + "names: [a, b]\ndownload: |\n  import os\n  os.system('touch hacked')\n"),
    ),
    Bad(
        "data that cannot be fetched",
        f"train model=yolo26n.yaml data={NOWHERE}/mine.zip",
        (f"{NOWHERE}/mine.zip", "refused", "put the file at"),
        1,
    ),
    Bad("damaged archive", "train model=yolo26n.yaml data=mine.zip", ("mine.zip", "damaged", "zip"), 1, broken_zip),
    Bad(
        "classes that the data has not",
        f"{TRAIN} classes=[0,7]",
        ("classes=[0, 7]", "no class 7", "2 classes (0 red, 1 blue)"),
    ),
    Bad(
        "validation of classes that the data has not",
        f"{VAL} classes=7",
        ("classes=[7]", "no class 7", "0 red, 1 blue"),
    ),
    Bad(
        "model of other classes",
        VAL.replace("two", "three"),
        ("3 classes (cat, dog, cow)", "data=tiny.yaml names 2 classes (red, blue)", "Give the data"),
        1,
    ),
    Bad(
        "model of other channels",
        VAL.replace("tiny", "mine"),
        ("3 channels", "data=mine.yaml says channels=1", "Correct `channels`"),
        1,
        described(SPLITS + "names: [red, blue]\nchannels: 1"),
    ),
]

CONTENTS = [
    Bad(
        "no labels",
        TRAIN,
        ("no label file found for any of 8 images", "labels/train/0.txt", "should be"),
        1,
        remove_labels,
    ),
    Bad(
        "class out of range",
        TRAIN,
        ("labels/train/0.txt line 1: class 7", CLASSES, "Correct these files"),
        1,
        labels("7 0.5 0.5 0.2 0.2"),
    ),
    Bad(
        "class out of range in validation",
        TRAIN,
        ("val: none of the 4 images", "class 7", CLASSES),
        1,
        labels("7 .5 .5 .2 .2", "val"),
    ),
    Bad(
        "negative class in labels",
        TRAIN,
        ("labels/train/0.txt line 1: class -1", CLASSES),
        1,
        labels("-1 0.5 0.5 0.2 0.2"),
    ),
    Bad(
        "half a class",
        TRAIN,
        ("labels/train/0.txt line 1: class 0.5", "whole number", CLASSES),
        1,
        labels("0.5 0.5 0.5 0.2 0.2"),
    ),
    Bad("NaN coordinate", TRAIN, ("labels/train/0.txt line 1: nan", "between 0 and 1"), 1, labels("0 nan 0.5 0.2 0.2")),
    Bad(
        "infinite coordinate", VAL, ("labels/val/0.txt line 1: inf", "between 0 and 1"), 1, labels("0 0.5 0.5 inf 0.2")
    ),
    Bad(
        "pixels for fractions",
        TRAIN,
        ("labels/train/0.txt line 1: coordinate 32", "divided by the image size"),
        1,
        labels("0 32 20 12 12"),
    ),
    Bad(
        "negative width",
        TRAIN,
        ("labels/train/0.txt line 1: width or height -0.2", "between 0 and 1"),
        1,
        labels("0 .5 .5 -.2 .2"),
    ),
    Bad("columns missing", TRAIN, ("labels/train/0.txt line 1: 3 columns", "instead of 5"), 1, labels("0 0.5 0.5")),
    Bad(
        "words for numbers",
        TRAIN,
        ("labels/train/0.txt line 1: 'red'", "not a number"),
        1,
        labels("red 0.5 0.5 0.2 0.2"),
    ),
    Bad(
        "corrupt images",
        TRAIN,
        ("images/train/0.png is damaged", "none of the 8 images"),
        1,
        every("images/*/*.png", b"\x89PNG\r\n\x1a\n" + b"no header" * 9),
    ),
    Bad(
        "empty images",
        TRAIN,
        ("images/train/0.png is empty (0 bytes)", "none of the 8 images"),
        1,
        every("images/*/*.png", b""),
    ),
    Bad(
        "text called an image",
        TRAIN,
        ("images/train/0.png is damaged or not an image", "none of"),
        1,
        every("images/*/*.png", "text"),
    ),
    Bad(
        "images of a few pixels",
        TRAIN,
        ("images/train/0.png is 4x4 pixels", "at least 10"),
        1,
        every("images/*/*.png", cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()),
    ),
    # A run replaces it (faults/test_data.py); a validation by itself must not judge other images than it was asked for.
    Bad("an image broken inside", f"{VAL} split=train", ("images/train/3.png", "Cannot decode"), 1, broken_inside),
    Bad(
        "images of other channels",
        DATA,
        ("images/train", "3 channels", "channels=5", "Correct `channels`"),
        1,
        described(SPLITS + "names: [a, b]\nchannels: 5"),
    ),
    Bad(
        "a list of images that are not there",
        DATA,
        ("x/1.png cannot be read", "No such file"),
        1,
        both(write("list.txt", "x/1.png\nx/2.png"), described("train: list.txt\nval: images/val\nnames: [a, b]")),
    ),
]

OUTPUT = [
    Bad("a read-only project", f"{TRAIN} project=/proc/x", ("'/proc/x/train'", "cannot be made", "setting project"), 1),
    Bad(
        "a project below a file",
        f"{TRAIN} project=tiny.yaml/runs",
        ("'tiny.yaml/runs/train'", "Not a directory", "setting project"),
        1,
    ),
    Bad("a file as run folder", f"{TRAIN} save_dir=tiny.yaml", ("'tiny.yaml'", "File exists", "setting save_dir"), 1),
    Bad(
        "a run folder where the default is a file",
        TRAIN,
        ("runs/detect/train", "Not a directory", "setting project (default"),
        1,
        write("runs", "a file"),
    ),
    Bad(
        "validation to a read-only folder",
        f"{VAL} save_dir=/proc/x",
        ("'/proc/x'", "cannot be made", "setting save_dir"),
        1,
    ),
    Bad(
        "prediction to a read-only folder",
        f"{PREDICT} project=/proc/x",
        ("'/proc/x/predict'", "cannot be made", "setting project"),
        1,
    ),
]

SOURCE = [
    Bad(
        "missing source",
        "predict model=two.pt source=none.jpg",
        ("source=none.jpg", "no such file or folder", "Correct"),
    ),
    Bad(
        "empty folder",
        "predict model=two.pt source=empty",
        ("source=empty", "no image or video", "jpg"),
        prepare=folder("empty"),
    ),
    Bad(
        "folder of folders", "predict model=two.pt source=images", ("source=images", "no image or video", "subfolders")
    ),
    Bad(
        "pattern of nothing",
        "predict model=two.pt source=images/val/*.gif",
        ("source=images/val/*.gif", "matches", "gif"),
    ),
    Bad(
        "corrupt source",
        "predict model=two.pt source=mine.jpg",
        ("mine.jpg", "damaged"),
        prepare=write("mine.jpg", b"\xff\xd8\xff broken"),
    ),
    Bad(
        "empty source",
        "predict model=two.pt source=mine.jpg",
        ("mine.jpg", "empty (0 bytes)"),
        prepare=write("mine.jpg", b""),
    ),
    Bad("a source that is no picture", "predict model=two.pt source=tiny.yaml", ("tiny.yaml", "not an image format")),
    Bad(
        "a broken video",
        "predict model=two.pt source=mine.mp4",
        ("mine.mp4", "no frame"),
        prepare=write("mine.mp4", b"no video"),
    ),
    Bad(
        "a list of nothing",
        "predict model=two.pt source=mine.txt",
        ("mine.txt", "empty", "one path"),
        prepare=write("mine.txt", ""),
    ),
    Bad(
        "a list of missing pictures",
        "predict model=two.pt source=mine.txt",
        ("a.jpg", "No such file"),
        prepare=write("mine.txt", "a.jpg\nb.jpg"),
    ),
    Bad(
        "a source that cannot be fetched",
        f"predict model=two.pt source={NOWHERE}/a.jpg",
        (f"{NOWHERE}/a.jpg", "refused", "Download it"),
    ),
    Bad("classes that the model has not", f"{PREDICT} classes=9", ("classes=[9]", "no class 9", "2 classes")),
    Bad("a batch of none", f"{PREDICT} batch=-1", ("batch=-1", "whole number from 1")),
]

CASES = [*REQUEST, *MODEL, *DESCRIPTION, *CONTENTS, *OUTPUT, *SOURCE]
