"""Label files of every format → rows."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from golden.golden import shared_data
from sightline.data.formats import coco, visdrone, voc
from sightline.data.formats.yolo import (
    LabelFileError,
    LabelRules,
    label_path,
    list_images,
    parse_labels,
    take_fraction,
)
from sightline.errors import DataError, MissingFileError

RULES = LabelRules("detect", 3, None, False, "animals.yaml")


# ------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("/data/my images/images/ä b.PNG", "/data/my images/labels/ä b.txt"),
        ("/d/images/images/a.jpg", "/d/images/labels/a.txt"),
        ("/d/images/no_suffix", "/d/labels/no_suffix.txt"),
        ("/d.x/photos/no_suffix", "/d.x/photos/no_suffix.txt"),  # the dot of a folder is no suffix
    ],
)
def test_label_path(image: str, label: str):
    assert label_path(image.replace("/", os.sep)) == label.replace("/", os.sep)


def test_images_are_found_at_any_depth_sorted_without_hidden_files(tmp_path: Path):
    for name in ("b/2.JPG", "b/c/1.webp", "a.png", "notes.txt", "._a.png", ".cache/x.jpg", "nosuffix"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)  # a folder inside itself must not end the world
    assert list_images(tmp_path) == [str(tmp_path / name) for name in ("a.png", "b/2.JPG", "b/c/1.webp")]


def test_a_list_names_images_beside_it_below_the_root_or_anywhere(tmp_path: Path):
    root, lists = tmp_path / "root", tmp_path / "lists"
    for folder in (root / "images", lists):
        folder.mkdir(parents=True)
    for path in (root / "images" / "r.jpg", lists / "l.jpg", tmp_path / "x.jpg"):
        path.touch()
    (lists / "train.txt").write_text(
        f"\ufeff./l.jpg\n\nimages/r.jpg\n{tmp_path / 'x.jpg'}\nlabels.txt\n", encoding="utf-8"
    )
    expected = sorted([str(lists / "l.jpg"), str(root / "images" / "r.jpg"), str(tmp_path / "x.jpg")])
    assert list_images([lists / "train.txt"], root=root) == expected


def test_no_image_and_no_folder_are_errors_that_name_them(tmp_path: Path):
    with pytest.raises(MissingFileError, match=r"nowhere does not exist"):
        list_images(tmp_path / "nowhere")
    (tmp_path / "readme.md").touch()
    with pytest.raises(MissingFileError, match=r"No image in .*1 other files.*jpeg, jpg"):
        list_images(tmp_path)


def test_a_binary_file_as_a_list_is_an_error(tmp_path: Path):
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(DataError, match=r"list\.txt is not a UTF-8 text file"):
        list_images(tmp_path / "list.txt")


@pytest.mark.parametrize(("fraction", "count"), [(1.0, 100), (0.1, 10), (0.001, 1), (7, 7), (500, 100), (1, 100)])
def test_fraction_keeps_that_many_in_order(fraction: float, count: int):
    paths = [f"{i:03d}" for i in range(100)]
    chosen = take_fraction(paths, fraction, seed=3)
    assert len(set(chosen)) == count
    assert chosen == sorted(chosen)
    assert chosen == take_fraction(paths, fraction, seed=3)


def test_fraction_is_spread_over_the_list_and_depends_on_the_seed():
    paths = [f"{i:03d}" for i in range(100)]
    chosen = [int(name) for name in take_fraction(paths, 0.2, seed=0)]
    assert [number // 5 for number in chosen] == list(range(20))  # one of each stretch of five
    assert take_fraction(paths, 0.2, seed=0) != take_fraction(paths, 0.2, seed=1)


# ------------------------------------------------------------------------------------------------- YOLO rows


def test_boxes():
    labels = parse_labels(b"2 0.5 0.25 0.1 0.2\n\n  0\t1 1 0 0.5 \r\n", RULES)
    assert labels.rows.dtype == np.float32
    np.testing.assert_allclose(labels.rows, [[2, 0.5, 0.25, 0.1, 0.2], [0, 1, 1, 0, 0.5]], atol=1e-7)
    assert len(labels.points) == 0
    assert labels.notices == ["line 3: 1 box without area"]


def test_polygons_become_boxes_around_them():
    labels = parse_labels(b"1 0.1 0.2 0.5 0.2 0.3 0.8\n0 0 0 1 0 1 1 0 1\n", RULES)
    np.testing.assert_allclose(labels.rows, [[1, 0.3, 0.5, 0.4, 0.6], [0, 0.5, 0.5, 1, 1]], atol=1e-6)
    assert labels.counts.tolist() == [3, 4]
    np.testing.assert_allclose(labels.points[:3], [[0.1, 0.2], [0.5, 0.2], [0.3, 0.8]], atol=1e-6)


def test_duplicates_leave_in_file_order():
    labels = parse_labels(b"2 .5 .5 .1 .1\n0 .5 .5 .1 .1\n2 0.50 .5 .1 .1\n1 .1 .1 .1 .1\n2 .5 .5 .1 .1\n", RULES)
    assert labels.rows[:, 0].tolist() == [2, 0, 1]
    assert labels.notices == ["lines 3, 5: 2 duplicate labels removed"]


def test_duplicate_polygons_leave_with_their_points():
    labels = parse_labels(b"1 0 0 1 0 1 1\n0 0 0 1 0 1 1 0 1\n1 0 0 1 0 1 1\n", RULES)
    assert labels.counts.tolist() == [3, 4]
    assert len(labels.points) == 7


def test_equal_boxes_of_different_polygons_are_no_duplicates():
    assert len(parse_labels(b"1 0 0 1 0 1 1\n1 0 0 1 1 0 1\n", RULES).rows) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"0 .5 .5 .1 .1\n7 .5 .5 .1 .1\n", r"^line 2: class 7, but animals\.yaml names 3 classes \(0-2\)$"),
        (b"0 .5 .5 .1\n", r"^line 1: 4 columns instead of 5 \(class cx cy w h\)$"),
        (b"\n0 320 240 64 48\n", r"^line 2: coordinate 320; coordinates are divided by the image size"),
        (b"0 .5 .5 -.1 .1\n", r"^line 1: width or height -0\.1 is negative; coordinates are between 0 and 1$"),
        (b"0 -.5 .5 .1 .1\n", r"^line 1: coordinate -0\.5 is negative; coordinates are between 0 and 1$"),
        (b"-1 .5 .5 .1 .1\n", r"^line 1: class -1 is negative; animals\.yaml names 3 classes \(0-2\)$"),
        (b"1.5 .5 .5 .1 .1\n", r"^line 1: class 1\.5 is not a whole number; animals\.yaml names 3 classes \(0-2\)$"),
        (b"0 .5 .5 .1 .1\n0 .5 nan .1 .1\n", r"^line 2: nan is not a finite number; coordinates are between 0 and 1$"),
        (b"0 .5 .5 .1 inf\n", r"^line 1: inf is not a finite number; "),
        (b"0 .5 .5 .1 1e300\n", r"^line 1: 1e300 is not a finite number; "),
        (b"cat .5 .5 .1 .1\n", r"^line 1: 'cat' is not a number$"),
        (b"0 0 0 1 0 1 1\n0 .5 .5 .1 .1\n", r"^line 2: a box row among polygon rows"),
        (b"0 0 0 1 0 1 1 1\n", r"^line 1: an odd number of polygon coordinates \(7\)$"),
        (b"0 0 0 1 0 1 1\n0 0 0 1 0 1\n", r"^line 2: 6 columns; a polygon row has a class and at least 3 points$"),
        (b"\xff\xfe0\x00", r"^is not UTF-8 text"),
        (b"9 .5 .5 .1 .1\n" * 5, r"^line 1: class 9.*; line 5: class 9[^;]*$"),
    ],
)
def test_what_is_wrong_is_said_with_the_line(content: bytes, said: str):
    with pytest.raises(LabelFileError, match=said):
        parse_labels(content, RULES)


@pytest.mark.parametrize(
    "content", [b"1 1.01 .5 .1 .1", b"1 -0.01 .5 .1 .1", b"2 0 0 0 0", b"", b"\n \n", b"\xef\xbb\xbf"]
)
def test_what_is_barely_right_passes(content: bytes):
    parse_labels(content, RULES)


def test_single_cls_takes_any_class():
    rules = LabelRules("detect", 1, None, True, "x")
    assert parse_labels(b"7 .5 .5 .1 .1", rules).rows[0, 0] == 7


def test_pose_rows():
    rules = LabelRules("pose", 1, (2, 2), False, "x")
    labels = parse_labels(b"0 .5 .5 .4 .4 .1 .2 -0.005 .4\n", rules)
    np.testing.assert_allclose(labels.keypoints, [[[0.1, 0.2, 1], [-0.005, 0.4, 0]]], atol=1e-6)
    with pytest.raises(LabelFileError, match=r"5 columns instead of 9"):
        parse_labels(b"0 .5 .5 .4 .4\n", rules)
    with pytest.raises(LabelFileError, match=r"coordinate 1\.5"):
        parse_labels(b"0 .5 .5 .4 .4 .1 .2 1.5 .4\n", rules)
    assert parse_labels(b"", rules).keypoints.shape == (0, 2, 3)


def test_a_pose_file_trains_a_detector():
    rules = LabelRules("detect", 1, (2, 3), False, "x")
    labels = parse_labels(b"0 .5 .5 .4 .4 .1 .2 2 .3 .4 2\n0 .1 .1 .1 .1\n", rules)
    assert labels.rows.shape == (2, 5)
    assert labels.keypoints is None


# ------------------------------------------------------------------------------------------------- VOC, VisDrone, COCO


def test_voc_annotations_agree_with_the_yolo_labels_of_bccd():
    """The labels beside the XML files were made by other code, without the shift by one pixel."""
    root = shared_data("bccd")
    names = ["RBC", "WBC", "Platelets"]
    checked = 0
    for label in sorted((root / "labels" / "val").glob("*.txt"))[:40]:
        rows = voc.read_annotation(root / "voc" / "Annotations" / f"{label.stem}.xml", names)
        expected = np.loadtxt(label, ndmin=2)
        rows = rows[(rows[:, 3] * 640 > 1.5) | (rows[:, 4] * 480 > 1.5)]  # an object of one point is left out there
        if rows.shape != expected.shape:
            continue
        assert (rows[:, 0] == expected[:, 0]).all()
        assert (np.abs(rows[:, 1:] - expected[:, 1:]) * [640, 480, 640, 480]).max() < 1.01
        checked += 1
    assert checked > 30


def test_voc_boxes_include_both_end_pixels(tmp_path: Path):
    text = (
        "<annotation><size><width>10</width><height>20</height></size><object><name>dog</name><difficult>{}</difficult>"
        "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>10</ymax></bndbox></object></annotation>"
    )
    (tmp_path / "a.xml").write_text(text.format(0))
    np.testing.assert_allclose(voc.read_annotation(tmp_path / "a.xml"), [[11, 0.5, 0.25, 1, 0.5]])
    (tmp_path / "a.xml").write_text(text.format(1))
    assert voc.read_annotation(tmp_path / "a.xml").shape == (0, 5)
    assert voc.read_annotation(tmp_path / "a.xml", difficult=True).shape == (1, 5)


@pytest.mark.parametrize(
    "content",
    [
        "<annotation>",
        "<annotation><object><name>dog</name></object></annotation>",
        '<!DOCTYPE a [<!ENTITY x "xxxx">]><annotation>&x;</annotation>',
    ],
)
def test_bad_voc_files_are_named(tmp_path: Path, content: str):
    (tmp_path / "bad.xml").write_text(content)
    with pytest.raises(DataError, match=r"bad\.xml"):
        voc.read_annotation(tmp_path / "bad.xml")


def test_visdrone_lines():
    text = "10,20,30,40,1,4,0,0\n0,0,50,50,0,0,0,0\n5,5,5,5,1,11,0,0\n90,90,20,20,1,1,0,0,\n"
    rows = visdrone.read_annotation(text, 100, 100)
    np.testing.assert_allclose(rows, [[3, 0.25, 0.4, 0.3, 0.4], [0, 0.95, 0.95, 0.1, 0.1]])
    with pytest.raises(DataError, match=r"x\.txt line 2: expected left,top"):
        visdrone.read_annotation("1,2,3,4,1,1,0,0\n1,2\n", 10, 10, name="x.txt")


def test_coco_annotations():
    content = {
        "categories": [{"id": 90, "name": "b"}, {"id": 7, "name": "a"}],
        "images": [{"id": 1, "file_name": "x.jpg", "width": 100, "height": 200}, {"id": 2, "file_name": "y.jpg"}],
        "annotations": [
            {"image_id": 1, "category_id": 90, "bbox": [10, 20, 30, 40], "iscrowd": 0},
            {"image_id": 1, "category_id": 7, "bbox": [90, 0, 30, 40]},
            {"image_id": 1, "category_id": 7, "bbox": [0, 0, 30, 40], "iscrowd": 1},
        ],
    }
    rows = coco.read_annotations(content)
    assert list(rows) == ["x.jpg"]
    np.testing.assert_allclose(rows["x.jpg"], [[1, 0.25, 0.2, 0.3, 0.2], [0, 0.95, 0.1, 0.1, 0.2]])
