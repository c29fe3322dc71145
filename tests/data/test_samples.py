"""The built-in data set is what it says: learnable, not trivial, and the same everywhere."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from sightline.data import samples
from sightline.data.images import read_image
from sightline.data.index import LabelIndex, build_index
from sightline.data.spec import load_dataset_spec


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    samples.write_shapes(folder)
    return folder


@pytest.fixture(scope="module")
def scenes() -> list[samples.Scene]:
    return [samples.draw_scene("train", i) for i in range(100)]


def index_of(folder: Path, split: str) -> LabelIndex:
    spec = load_dataset_spec(
        {"path": str(folder), "train": "images/train", "val": "images/val", "names": list(samples.CLASSES)}
    )
    return build_index(spec.images(split), spec, cache=False)


def digest(folder: Path) -> str:
    """Of all pixels and labels; the bytes of a PNG depend on the library that packs it."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.*")):
        found.update(read_image(path).tobytes() if path.suffix == ".png" else path.read_bytes())
    return found.hexdigest()


@pytest.mark.parametrize(("split", "count"), [("train", 300), ("val", 60)])
def test_numbers(made: Path, split: str, count: int):
    index = index_of(made, split)
    assert len(index) == count
    assert index.report.messages == []
    assert (index.shapes == 320).all()
    objects = index.object_counts()
    assert (objects == 0).mean() == pytest.approx(0.1)
    assert objects[objects > 0].min() == 1
    assert objects.max() == 12
    sides = index.boxes[:, 2:] * 320
    assert sides.min() > 11.99
    assert sides.max() < 160.01
    assert (sides.max(axis=1) < 24).mean() >= 0.15
    counts = index.class_counts(5)
    assert counts.min() > 0.8 * counts.max()  # no class is rare


def test_size_on_disk(made: Path):
    assert sum(path.stat().st_size for path in made.rglob("*") if path.is_file()) < 30e6


def test_enough_objects_are_covered_and_none_too_much(scenes):
    hidden = np.concatenate([scene.hidden for scene in scenes])
    assert (hidden > 0.05).mean() >= 0.15
    assert hidden.max() <= samples.MOST_HIDDEN


def test_boxes_fit_the_visible_pixels():
    """Compared with a second, independent rendering: the outline of a lone object filled by OpenCV."""
    rng = np.random.default_rng(0)
    for kind in range(5):
        corners = samples._polygon(rng, kind)
        corners -= corners.min(axis=0) - 2
        width, height = (int(side) for side in np.ceil(corners.max(axis=0)) + 2)
        inside = samples._coverage(corners, width, height) > 0.5
        filled = np.zeros((height, width), np.uint8)
        # OpenCV's pixel centres are at whole numbers, ours at halves; 4 fractional bits.
        cv2.fillPoly(filled, [((corners - 0.5) * 16).round().astype(np.int32)], 1, shift=4)
        # Its filling includes pixels the outline only touches, so it is larger by a rim of one pixel at most.
        rim = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8))
        assert (filled <= rim).all()
        assert (inside <= filled).mean() > 0.99


def test_colour_does_not_tell_the_class(scenes):
    """The mean colour at the centre of a box predicts the class no better than chance."""
    colours, classes = [], []
    for scene in scenes:
        for row in scene.rows:
            x, y = (row[1:3] * 320).astype(int)
            colours.append(scene.image[y, x].astype(float))
            classes.append(row[0])
    colours, classes = np.array(colours), np.array(classes)
    half = len(classes) // 2
    means = np.array([colours[:half][classes[:half] == kind].mean(axis=0) for kind in range(5)])
    guesses = np.linalg.norm(colours[half:, None] - means, axis=2).argmin(axis=1)
    assert (guesses == classes[half:]).mean() < 0.33  # chance is 0.2


def test_the_background_is_textured(scenes):
    for scene in scenes[9::10]:
        assert len(scene.rows) == 0
        grey = cv2.cvtColor(scene.image, cv2.COLOR_BGR2GRAY).astype(float)
        assert grey.std() > 1.0


def test_the_same_every_time(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scene, again = samples.draw_scene("val", 7), samples.draw_scene("val", 7)
    np.testing.assert_array_equal(scene.image, again.image)
    np.testing.assert_array_equal(scene.image, read_image(made / "images" / "val" / "0007.png"))
    assert samples.draw_scene("train", 7).image.tobytes() != scene.image.tobytes()
    monkeypatch.setattr(samples, "COUNTS", {"train": 0, "val": 60})
    samples.write_shapes(tmp_path)
    assert digest(tmp_path / "images" / "val") == digest(made / "images" / "val")
    assert digest(tmp_path / "labels" / "val") == digest(made / "labels" / "val")


def test_a_change_of_the_drawing_needs_another_folder(made: Path):
    """Whoever has drawn the set keeps the old one, unless `path` in shapes.yaml says another name."""
    assert digest(made / "labels" / "val")[:16] == "95179a40069a4ffb", "raise the number in config/datasets/shapes.yaml"


def test_two_at_once_make_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path))
    monkeypatch.setattr(samples, "COUNTS", {"train": 6, "val": 4})
    drawn: list = []
    original = samples.draw_scene
    monkeypatch.setattr(samples, "draw_scene", lambda *job: (drawn.append(job), original(*job))[1])
    found: list = []
    threads = [threading.Thread(target=lambda: found.append(load_dataset_spec("shapes"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(drawn) == 10
    assert len(found[0].images("train")) == 6
    assert [path.name for path in (tmp_path / "datasets").iterdir() if path.is_dir()] == [found[0].root.name]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from sightline.errors import OutputError

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path))
    monkeypatch.setattr(samples.cv2, "imencode", full)
    with pytest.raises(OutputError, match="No space left"):
        load_dataset_spec("shapes")
    assert [path for path in (tmp_path / "datasets").iterdir() if path.is_dir()] == []
