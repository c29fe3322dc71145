"""The label index: flat arrays, filters, the summary of defects, and a cache that notices every change."""

from __future__ import annotations

import os
import pickle
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sightline.data import index as index_module
from sightline.data.array_file import map_arrays, read_facts, write_arrays
from sightline.data.formats.yolo import list_images
from sightline.data.index import LabelIndex, PathList, build_index
from sightline.data.spec import DatasetSpec
from sightline.errors import DataError

SPEC = DatasetSpec(Path("animals.yaml"), Path("."), {}, {0: "ant", 1: "bee", 2: "cat"}, 3)
LABELS = {
    "a": "0 .5 .5 .1 .1\n2 .25 .25 .5 .5\n",
    "b": "",
    "c": None,
    "d": "1 .1 .1 .1 .1\n1 .2 .2 .1 .1\n0 .3 .3 .1 .1\n",
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "user cache"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four images with two, no, no and three objects."""
    return make(tmp_path / "däta set", LABELS)


def make(root: Path, labels: dict[str, str | None]) -> Path:
    import cv2

    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i, (name, text) in enumerate(labels.items()):
        content = cv2.imencode(".jpg", np.full((20 + i, 30, 3), 100, np.uint8))[1]
        (root / "images" / f"{name}.jpg").write_bytes(content.tobytes())
        if text is not None:
            (root / "labels" / f"{name}.txt").write_text(text, encoding="utf-8")
    return root


def build(root: Path, **options) -> LabelIndex:
    return build_index(list_images(root / "images"), SPEC, **options)


def contents(index: LabelIndex) -> list:
    return [(path, *map(np.ndarray.tolist, (shape, index.labels(i).classes, index.labels(i).boxes)))
            for i, (path, shape) in enumerate(zip(index.paths, index.shapes, strict=True))]  # fmt: skip


# ------------------------------------------------------------------------------------------------- content


def test_what_an_index_holds(data: Path):
    index = build(data)
    assert len(index) == 4
    assert index.paths == [str(data / "images" / f"{name}.jpg") for name in "abcd"]
    assert index.shapes.tolist() == [[20, 30], [21, 30], [22, 30], [23, 30]]
    assert index.object_counts().tolist() == [2, 0, 0, 3]
    assert index.class_counts(3).tolist() == [2, 2, 1]
    labels = index.labels(0)
    assert labels.classes.tolist() == [0, 2]
    np.testing.assert_allclose(labels.boxes, [[0.5, 0.5, 0.1, 0.1], [0.25, 0.25, 0.5, 0.5]], atol=1e-7)
    assert labels.polygons is None
    assert labels.keypoints is None
    assert index.labels(1).boxes.shape == (0, 4)
    assert index.boxes.shape == (5, 4)
    assert index.classes.dtype == np.float32
    report = index.report
    assert (report.found, report.missing, report.empty, report.corrupt, report.total) == (3, 1, 1, 0, 4)
    assert report.counts() == "3 images, 2 backgrounds, 0 corrupt"


def test_filters(data: Path):
    index = build(data)
    only = index.with_classes([0])
    assert only.object_counts().tolist() == [1, 0, 0, 1]
    np.testing.assert_allclose(only.labels(3).boxes, [[0.3, 0.3, 0.1, 0.1]], atol=1e-7)
    part = index.subset([3, 0, 3])
    assert list(part.paths) == [index.paths[3], index.paths[0], index.paths[3]]
    assert part.object_counts().tolist() == [3, 2, 3]
    assert part.labels(1).classes.tolist() == [0, 2]
    assert part.shapes.tolist() == [[23, 30], [20, 30], [23, 30]]
    assert build(data, single_cls=True).class_counts(3).tolist() == [5, 0, 0]
    assert index.class_counts(3).tolist() == [2, 2, 1]  # none of this changed the index itself


def test_polygons_stay_with_their_objects(tmp_path: Path):
    square, triangle = "0 0 0 .5 0 .5 .5 0 .5", "1 .1 .1 .9 .1 .5 .9"
    root = make(
        tmp_path / "p", {"a": f"{square}\n{triangle}\n", "b": "2 .5 .5 .1 .1\n", "c": f"{triangle}\n", "d": None}
    )
    index = build(root)
    assert index.has_polygons
    assert [polygon.shape for polygon in index.labels(0).polygons] == [(4, 2), (3, 2)]
    np.testing.assert_allclose(index.labels(2).polygons[0], [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]], atol=1e-7)
    assert index.labels(1).polygons is None  # a file of boxes
    assert index.labels(3).polygons is None
    only = index.with_classes([1]).subset([2, 0])
    assert [len(only.labels(i).polygons) for i in range(2)] == [1, 1]
    np.testing.assert_allclose(only.labels(1).polygons[0], index.labels(0).polygons[1])
    with pytest.raises(DataError, match=r"1 of 4 objects have no polygon, which task=segment needs"):
        build(root, task="segment")


def test_keypoints(tmp_path: Path):
    spec = DatasetSpec(None, Path("."), {}, {0: "x"}, 1, kpt_shape=(2, 2))
    root = make(tmp_path / "k", {"a": "0 .5 .5 .4 .4 .1 .2 .3 .4\n", "b": None})
    index = build_index(list_images(root / "images"), spec, task="pose")
    np.testing.assert_allclose(index.labels(0).keypoints, [[[0.1, 0.2, 1], [0.3, 0.4, 1]]], atol=1e-6)
    assert index.labels(1).keypoints.shape == (0, 2, 3)
    assert index.subset([1, 0]).labels(1).keypoints.shape == (1, 2, 3)


# ------------------------------------------------------------------------------------------------- defects


def test_every_defect_is_in_one_summary(data: Path, caplog: pytest.LogCaptureFixture):
    make(data, {"e": "9 .5 .5 .1 .1\n", "f": "0 .5 .5 .1 .1\n0 .5 .5 .1 .1\n", "g": "0 2 2 2 2\n" * 5, "h": "x\n"})
    (data / "images" / "i.jpg").write_bytes(b"")
    with caplog.at_level("INFO", logger="sightline"):
        index = build(data, name="train")
    assert len(index) == 5
    assert index.report.corrupt == 4
    assert len(caplog.records) == 1
    text = caplog.records[0].getMessage()
    assert text.startswith("train: 7 images, 2 backgrounds, 4 corrupt")
    for part in ("e.txt line 1: class 9", "f.txt line 2: 1 duplicate", "g.txt line 1: coordinate 2", "g.txt line 5: ",
                 "h.txt line 1: 1 columns", "i.jpg is empty"):  # fmt: skip
        assert part in text, part
    caplog.clear()
    with caplog.at_level("INFO", logger="sightline"):
        build(data, name="train")  # from the cache
    assert caplog.records[0].getMessage() == text


def many_defects(root: Path, *, good: bool = True) -> Path:
    """One sound pair, a file of 30 bad rows, one with 30 duplicates, and 25 files with one duplicate."""
    row = "0 .5 .5 .1 .1\n"
    labels = {"bad": "5 .5 .5 .1 .1\n" * 30}
    if good:
        labels |= {"ok": row, "dup": row * 31, **{f"{i:02d}": row * 2 for i in range(25)}}
    return make(root, labels)


def test_a_file_has_what_the_summary_leaves_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = many_defects(tmp_path / "l")
    for _ in range(2):  # the second time from the cache
        caplog.clear()
        with caplog.at_level("INFO", logger="sightline"):
            build(root, name="train")
        (said,) = caplog.messages
        assert said.count("left out: ") == said.count("used, but: ") == 20
        (file,) = root.glob("*.txt")
        assert f"… and 10 more such lines; {file} has them all" in said
        assert f"… and 6 more such lines; {file} has them all" in said
        text = file.read_text("utf-8")
        assert text.startswith("train: 28 images, 0 backgrounds, 1 corrupt\n")
        for i in range(30):
            assert f"bad.txt line {i + 1}: class 5" in text
        for i in range(25):
            assert f"{i:02d}.txt line 2: 1 duplicate label removed" in text
        assert f"dup.txt lines {', '.join(map(str, range(2, 32)))}: 30 duplicate labels removed" in text
        file.unlink()


def test_a_list_of_defects_leaves_with_them(tmp_path: Path):
    root = many_defects(tmp_path / "l")
    build(root)
    assert list(root.glob("*.txt"))
    make(root, dict.fromkeys(["bad", "dup", *(f"{i:02d}" for i in range(25))], "0 .5 .5 .1 .1\n"))
    build(root)
    assert not list(root.glob("*.txt"))


@pytest.mark.parametrize("why", ["no cache wanted", "nowhere to write"])
def test_without_a_file_the_summary_has_every_defect(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, why: str
):
    root = many_defects(tmp_path / "l")
    if why == "nowhere to write":
        (tmp_path / "file").touch()
        monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "file"))
        root.chmod(0o555)
    try:
        with caplog.at_level("INFO", logger="sightline"):
            build(root, cache=why != "no cache wanted")
    finally:
        root.chmod(0o755)
    (said,) = caplog.messages
    assert (said.count("left out: "), said.count("used, but: ")) == (30, 26)
    assert "more such lines" not in said


def test_nothing_usable_and_too_much_to_say(tmp_path: Path):
    root = many_defects(tmp_path / "n", good=False)
    with pytest.raises(DataError, match=r"(?s)none of the 1 images.*line 20: .*… and 10 more; .*\.txt has them all"):
        build(root)
    (file,) = root.glob("*.txt")
    assert "bad.txt line 30: class 5" in file.read_text("utf-8")
    with pytest.raises(DataError, match=r"line 30: class 5"):
        build(root, cache=False)


def test_nothing_usable_lists_the_reasons(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = make(tmp_path / "n", {"a": "9 .5 .5 .1 .1", "b": "hello"})
    with pytest.raises(
        DataError, match=r"(?s)none of the 2 images can be used.*a\.txt line 1: class 9.*b\.txt line 1: "
    ):
        build(root)
    assert caplog.text == ""  # said once, in the error


def test_classes_are_those_of_the_files_also_where_all_become_one(tmp_path: Path):
    root = make(tmp_path / "n", {"a": "0 .5 .5 .1 .1\n1 .2 .2 .1 .1", "b": "1 .5 .5 .2 .2"})
    assert build(root, classes=[1]).classes.tolist() == [1, 1]
    one = build(root, classes=[1], single_cls=True)
    assert (one.classes.tolist(), one.object_counts().tolist()) == ([0, 0], [1, 1])


def test_no_label_file_at_all(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = make(tmp_path / "n", {"a": None, "b": None})
    with pytest.raises(DataError, match=r"no label file found for any of 2 images.*labels/a\.txt"):
        build(root)
    assert len(build(root, require_labels=False)) == 2
    assert "no label file found" in caplog.text


def test_no_object_at_all_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert len(build(make(tmp_path / "n", {"a": ""}))) == 1
    assert "hold no object at all" in caplog.text


def test_the_data_set_is_not_touched(data: Path):
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    build(data)
    assert {path: path.read_bytes() for path in before} == before


# ------------------------------------------------------------------------------------------------- cache


def cache_of(data: Path) -> Path:
    (found,) = data.glob("*.sightline.cache")
    return found


def scans(monkeypatch: pytest.MonkeyPatch) -> list:
    """Grows by one for each pair that is verified."""
    calls: list = []
    original = index_module.verify_pair
    monkeypatch.setattr(index_module, "verify_pair", lambda *a, **k: (calls.append(a), original(*a, **k))[1])
    return calls


def test_a_second_build_reads_no_image(data: Path, monkeypatch: pytest.MonkeyPatch):
    first = build(data)
    calls = scans(monkeypatch)
    second = build(data)
    assert calls == []
    assert contents(second) == contents(first)
    assert second.report == first.report


@pytest.mark.parametrize("change", ["label", "label, same size and time", "new label", "no label", "image", "classes"])
def test_every_change_is_noticed(data: Path, monkeypatch: pytest.MonkeyPatch, change: str):
    build(data)
    label, image = data / "labels" / "a.txt", data / "images" / "a.jpg"
    status, options = label.stat(), {}
    if change == "label":
        label.write_text("1 .5 .5 .1 .1\n")
    elif change == "label, same size and time":
        label.write_text(LABELS["a"].replace("2 ", "1 "))
        os.utime(label, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert label.stat().st_size == status.st_size
    elif change == "new label":
        (data / "labels" / "c.txt").write_text("1 .5 .5 .1 .1\n")
    elif change == "no label":
        label.unlink()
    elif change == "image":
        time.sleep(0.01)
        image.write_bytes((data / "images" / "b.jpg").read_bytes())
    else:
        options["single_cls"] = True
    calls = scans(monkeypatch)
    changed = build(data, **options)
    assert len(calls) == 4
    assert contents(changed) == contents(build(data, cache=False, **options))


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "header", "offsets"])
def test_a_damaged_cache_is_made_anew(data: Path, damage: str):
    expected = contents(build(data))
    file = cache_of(data)
    content = file.read_bytes()
    if damage == "offsets":
        arrays, facts = map_arrays(file)
        arrays = {**arrays, "row_offsets": np.array([0, 2, 10**9, 3, 5])}
        write_arrays(file, {name: np.array(array) for name, array in arrays.items()}, facts)
    else:
        file.write_bytes({"empty": b"", "cut": content[:-200], "garbage": b"\x80\x04c__reduce__" * 50,
                          "header": content[:16] + b"}" + content[17:]}[damage])  # fmt: skip
    assert contents(build(data)) == expected
    assert contents(build(data)) == expected
    assert read_facts(file)["key"]


def test_a_folder_without_write_permission_gets_its_cache_elsewhere(data: Path, tmp_path: Path):
    data.chmod(0o555)  # respected even for root, who could write there
    try:
        first = build(data)
        assert not list(data.glob("*.cache"))
        assert len(list((tmp_path / "user cache" / "labels").glob("*.sightline.cache"))) == 1
        assert contents(build(data)) == contents(first)
    finally:
        data.chmod(0o755)


def test_without_any_place_for_a_cache_the_index_is_in_memory(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "file"))
    data.chmod(0o555)
    try:
        index = build(data)
        assert contents(pickle.loads(pickle.dumps(index))) == contents(index)
    finally:
        data.chmod(0o755)


def test_the_folder_of_the_labels_does_not_fill_with_caches(data: Path):
    images = list_images(data / "images")
    for i in range(4):
        build_index([images[0], *images[1 : 1 + i]], SPEC)
        build_index([images[0], *images[1 : 1 + i]], SPEC, single_cls=True)
    assert len(list(data.glob("*.sightline.cache"))) == index_module.KEPT_CACHES


def test_caches_of_other_label_folders_are_left_alone(tmp_path: Path):
    """Splits whose names differ only behind a dot, or have characters with a meaning in file patterns."""
    names = ["a", "a.b", "a.c", "[x]", "[x].y"]
    for name in names:
        for folder in ("images", "labels"):
            (tmp_path / folder / name).mkdir(parents=True)
        picture = make(tmp_path / "made", {"one": None}) / "images" / "one.jpg"
        for i in range(6):
            (tmp_path / "images" / name / f"{i}.jpg").write_bytes(picture.read_bytes())
        (tmp_path / "labels" / name / "0.txt").write_text("0 .5 .5 .1 .1\n")
    for name in names:
        images = list_images(tmp_path / "images" / name)
        for count in range(1, 7):
            build_index(images[:count], SPEC)
    files = [path.name for path in (tmp_path / "labels").glob("*.sightline.cache")]
    assert Counter(name.rsplit(".", 3)[0] for name in files) == dict.fromkeys(names, index_module.KEPT_CACHES)


def test_a_list_of_defects_goes_with_its_cache(tmp_path: Path):
    root = many_defects(tmp_path / "l")
    images = list_images(root / "images")
    for count in range(index_module.KEPT_CACHES + 1):
        build_index(images[: len(images) - count], SPEC)
    stems = [{path.stem for path in root.glob(f"*.sightline.{suffix}")} for suffix in ("cache", "txt")]
    assert len(stems[1]) == index_module.KEPT_CACHES
    assert stems[1] <= stems[0]


def test_a_pickled_index_is_a_file_name(data: Path):
    index = build(data)
    sent = pickle.dumps(index)
    assert len(sent) < 1000
    assert contents(pickle.loads(sent)) == contents(index)


def test_a_million_objects_send_small_and_count_fast(tmp_path: Path):
    rows = np.random.default_rng(0).random((1_000_000, 5), dtype=np.float32)
    content, offsets = PathList.pack(f"/data/images/{i:06d}.jpg" for i in range(100_000))
    arrays = {
        "shapes": np.full((100_000, 2), 640, np.int32),
        "rows": rows,
        "row_offsets": np.arange(0, 1_000_001, 10, dtype=np.int64),
        "points": np.zeros((0, 2), np.float32),
        "point_offsets": np.zeros(0, np.int64),
        "path_bytes": content,
        "path_offsets": offsets,
    }
    write_arrays(tmp_path / "big.cache", arrays, {"key": "k", "report": {}})
    index = index_module._load(tmp_path / "big.cache", "k")
    assert len(pickle.dumps(index)) < 1000
    assert index.paths[-1] == "/data/images/099999.jpg"
    np.testing.assert_array_equal(index.labels(50_000).boxes, rows[500_000:500_010, 1:])
    assert index.subset(range(0, 100_000, 2)).object_counts().sum() == 500_000


# ------------------------------------------------------------------------------------------------- array file


def test_array_file_keeps_types_and_shapes(tmp_path: Path):
    arrays = {"a": np.arange(7, dtype=np.int64), "b": np.zeros((0, 3), np.float32), "c": np.ones((2, 3, 4), np.uint8)}
    write_arrays(tmp_path / "x", arrays, {"note": "ä"})
    mapped, facts = map_arrays(tmp_path / "x")
    assert facts == {"note": "ä"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(mapped[name], array)
        assert mapped[name].dtype == array.dtype
        assert not mapped[name].flags["WRITEABLE"]
    with pytest.raises(ValueError, match="complex"):
        write_arrays(tmp_path / "y", {"z": np.zeros(1, complex)}, {})


def test_paths_of_any_bytes():
    names = ["/a/ä 漢.jpg", os.fsdecode(b"/a/\xff.jpg"), ""]
    paths = PathList(*PathList.pack(names))
    assert list(paths) == names
    assert paths[-2:] == names[-2:]
    with pytest.raises(IndexError):
        paths[3]
