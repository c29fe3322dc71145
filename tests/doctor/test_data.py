"""`doctor data` on a small data set with one defect of each sort."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from sightline.config.load import make_settings
from sightline.doctor.data import examine, side_lengths, size_advice
from sightline.errors import DataError, UsageError


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_data.parent, tmp_path / "set")
    for cache in (tmp_path / "set").rglob("*.cache"):
        cache.unlink()
    return tmp_path / "set" / tiny_data.name


def labels(data: Path, split: str, number: int) -> Path:
    return data.parent / "labels" / split / f"{number}.txt"


def lines(data: Path, **settings: object) -> str:
    return "\n".join(examine(make_settings("train", {"data": str(data), "imgsz": 64, **settings})).lines())


def test_a_sound_set_has_no_complaints_but_its_smallness(data: Path):
    text = lines(data)
    assert "train: 8 images, 16 objects, 0 without objects" in text
    assert "red train 8, val 4; blue train 8, val 4" in text
    assert "near-duplicates across splits: none" in text
    assert "fewer than 20 training objects of red (8), blue (8)" in text
    assert "suspicious" not in text
    assert "imgsz=" not in text.split("(√(w·h)):")[1]  # objects of 14 to 30 pixels want nothing else


def test_defects_are_listed_with_file_and_line(data: Path):
    labels(data, "train", 0).write_text("0 0.5 0.5 0.2 0.2\n7 0.5 0.5 0.1 0.1\n")
    labels(data, "train", 1).unlink()
    text = lines(data)
    assert "1 without objects (1 without label file), 1 cannot be used" in text
    assert "0.txt line 2" in text
    assert "Correct these files" in text


def test_keypoints_are_counted(data: Path):
    """Of 16 objects 15 have the first keypoint, none the second; a row without keypoints is a defect."""
    rows = [labels(data, split, i) for split, count in (("train", 8), ("val", 4)) for i in range(count)]
    for file in rows:
        file.write_text("\n".join(f"{row} 0.5 0.5 2 0 0 0" for row in file.read_text().splitlines()))
    labels(data, "train", 0).write_text("0 0.5 0.5 0.2 0.2 0 0 0 0 0 0\n1 0.5 0.5 0.1 0.1 0.5 0.5 1 0 0 0")
    data.write_text(f"{data.read_text()}kpt_shape: [2, 3]\n")
    text = lines(data)
    assert "keypoints: 15 of 16 training objects have labelled ones; each of the 2: 15, 0" in text
    assert "no training object has keypoint 1 labelled" in text
    assert "flip_idx is missing" in text
    assert "keypoints:" not in lines(data, task="detect")  # asked for
    labels(data, "train", 1).write_text("0 0.5 0.5 0.2 0.2")
    assert "1.txt line 1" in lines(data)


def test_copies_across_splits_are_named(data: Path):
    shutil.copy(data.parent / "images/train/3.png", data.parent / "images/val/1.png")
    text = lines(data)
    assert "near-duplicates across splits: 1;" in text
    assert "val/1.png ~ train" in text.replace(str(data.parent / "images") + "/", "")
    assert "identical" in text


def test_it_is_said_when_only_some_images_were_compared(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sightline.doctor.data.MOST_HASHED", 6)
    assert "near-duplicates across splits (of 4 of 8 train images): none" in lines(data)


def test_suspicious_labels_are_named_by_kind(data: Path):
    labels(data, "train", 0).write_text("0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n")
    labels(data, "train", 1).write_text("0 0.5 0.5 0.4 0.4\n0 0.502 0.5 0.4 0.4\n")
    labels(data, "train", 2).write_text("1 0.5 0.5 0.99 0.99\n0 0.5 0.5 0.8 0.03\n0 0.1 0.1 0.02 0.02\n")
    text = lines(data)
    for kind in ("one object, two classes", "labelled twice", "fills the whole image", "sides differ 20-fold",
                 "less than 1.5 pixels"):  # fmt: skip
        assert f"({kind}" in text
    assert "(labelled twice): keep one of the two boxes." in text
    assert "far from the usual size" not in text  # with so few objects nobody knows what is usual


def test_a_size_far_from_its_class_is_suspicious(data: Path):
    rng = np.random.default_rng(0)
    for number in range(8):
        rows = [f"0 {x:.3f} {y:.3f} {w:.3f} {w:.3f}" for x, y, w in rng.uniform(0.2, 0.25, (6, 3))]
        labels(data, "train", number).write_text("\n".join(rows))
    assert "far from the usual size" not in lines(data)
    labels(data, "train", 0).write_text("0 0.5 0.5 0.9 0.9\n")
    text = lines(data)
    assert "1 label suspicious (far from the usual size of its class)" in text
    assert "red of 58×58 pixels" in text


def test_a_class_without_objects_and_an_unbalanced_one_are_named(data: Path):
    rows = "\n".join(f"0 {0.1 + i / 100:.2f} 0.5 0.1 0.1" for i in range(80))
    for number in range(8):
        labels(data, "train", number).write_text(rows)
    assert "no training object of blue" in lines(data)
    labels(data, "train", 0).write_text(rows + "\n1 0.5 0.5 0.3 0.3")
    assert "the largest class has 640 times the objects of the smallest" in lines(data)


@pytest.mark.parametrize(
    ("sides", "imgsz", "words"),
    [
        ([6.0] * 100, 640, "imgsz=864"),  # 640 · 8 / 6, up to a multiple of 32
        ([3.0] * 100, 640, "yolo26n-p2.yaml"),
        ([0.0] * 100, 640, "imgsz=2560"),  # four times the size and no more
        ([200.0] * 100, 640, "imgsz=192"),  # 640 · 64 / 200, down to a multiple of 32
        ([20.0] * 100, 640, ""),
        ([6.0] * 15 + [30.0] * 85, 640, ""),  # some small ones are usual
    ],
)
def test_advice_on_sizes(sides: list[float], imgsz: int, words: str):
    text = " ".join(size_advice(np.array(sides), imgsz))
    assert words in text
    assert bool(text) == bool(words)


def test_sides_are_pixels_of_the_network_s_input(data: Path):
    labels(data, "train", 0).write_text("0 0.5 0.5 0.5 0.125\n")
    report = examine(make_settings("train", {"data": str(data), "imgsz": 128}))
    assert side_lengths(report.splits[0].index, 128)[0] == pytest.approx(32)  # √(64 · 16)


def test_without_data_it_says_what_to_give():
    with pytest.raises(UsageError, match=r"data=file\.yaml"):
        examine(make_settings("train", {}))


def test_a_set_without_training_images_is_refused(data: Path):
    data.write_text(data.read_text().replace("train: images/train\n", ""))
    with pytest.raises(DataError):
        examine(make_settings("train", {"data": str(data)}))


def test_the_training_images_are_judged_also_where_the_others_are_gone(data: Path):
    data.write_text(data.read_text() + "test: images/nowhere\n")
    shutil.rmtree(data.parent / "images" / "val")
    report = lines(data)
    assert "train: 8 images, 16 objects" in report
    assert "! val: " in report
    assert "! test: " in report
    assert "images/nowhere does not exist" in report


def test_where_label_files_are_missed_is_said(data: Path):
    shutil.rmtree(data.parent / "labels" / "val")
    assert "! val: 4 of 4 images have no label file" in lines(data)
    assert str(labels(data, "val", 0)) in lines(data)
    labels(data, "train", 0).unlink()  # one of eight may well be meant
    assert "! train" not in lines(data)
