"""From a name to a description: built in, on disk, with and without the letter of the size."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml

from sightline.errors import ModelError
from sightline.models.build import build_model
from sightline.models.find import ZOO, find_description, read_description

TINY = {
    "nc": 2,
    "scales": {"n": [1.0, 0.25, 1024], "m": [1.0, 0.5, 1024]},
    "backbone": [[-1, 1, "Conv", [64, 3, 2]]],
    "head": [[[0], 1, "Detect", ["nc"]]],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, data: object = TINY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "file", "letter"),
    [
        ("yolo26n.yaml", "yolo26.yaml", "n"),
        ("yolo26x", "yolo26.yaml", "x"),
        ("yolo26.yaml", "yolo26.yaml", None),
        ("yolo26s-p2.yaml", "yolo26-p2.yaml", "s"),
        ("yolo26l-p6", "yolo26-p6.yaml", "l"),
        ("yolo26-p6", "yolo26-p6.yaml", None),
    ],
)
def test_built_in(folder: Path, name: str, file: str, letter: str | None):
    found = find_description(name)
    assert (found.path, found.letter) == (ZOO / file, letter)


def test_own_file_by_its_name_or_without_its_letter(folder: Path):
    write(folder / "nets" / "yolo26-mine.yaml")
    model = build_model("nets/yolo26m-mine.yaml")
    assert model.yaml["scale"] == "m"
    assert model.yaml["yaml_file"] == "yolo26m-mine.yaml"
    assert model.model[0].conv.out_channels == 32
    write(folder / "yolo26m-other.yaml")
    assert build_model(folder / "yolo26m-other.yaml").yaml["scale"] == "m"


@pytest.mark.parametrize("name", ["yolo26m_custom.yaml", "yolo26m-custom_v2.yaml", "my_yolo26m.yaml"])
def test_whatever_follows_the_letter(folder: Path, name: str):
    write(folder / name)
    assert build_model(name).yaml["scale"] == "m"


def test_a_letter_that_is_no_size_is_part_of_the_name(folder: Path):
    write(folder / "v2x.yaml")  # x is not among its scales
    assert build_model("v2x.yaml").yaml["scale"] == "n"


def test_own_file_with_spaces_and_other_letters(folder: Path):
    write(folder / "mein Modell" / "Zählung.yaml")
    assert build_model("mein Modell/Zählung.yaml").yaml["scale"] == "n"


def test_own_file_of_a_built_in_name_wins_and_says_so(folder: Path, caplog: pytest.LogCaptureFixture):
    write(folder / "yolo26.yaml")
    with caplog.at_level(logging.INFO, "sightline"):
        assert build_model("yolo26m.yaml").nc == 2
    assert "not the built-in" in caplog.text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("yolo26q.yaml", ["yolo26q.yaml", "Did you mean", "yolo26", "sizes such as yolo26n"]),
        ("yolo62n.yaml", ["yolo26n.yaml"]),
        ("yolo26n-p3", ["yolo26n-p2.yaml"]),
        ("yolo26n.pt", ["weights file", "YOLO('yolo26n.pt')"]),
        ("cfg/yolo26n.yaml", ["no file cfg/yolo26n.yaml"]),
        ("something", ["built in are", "yolo26-p2"]),
    ],
)
def test_unknown_names_get_a_hint(folder: Path, name: str, words: list[str]):
    with pytest.raises(ModelError) as caught:
        build_model(name)
    for word in words:
        assert word in str(caught.value)


def test_size_that_the_file_does_not_have(folder: Path):
    write(folder / "yolo26-mine.yaml")
    with pytest.raises(ModelError, match=r"no size 'x'.*n, m"):
        build_model("yolo26x-mine.yaml")


@pytest.mark.parametrize(
    ("text", "words"), [("backbone: [1, 2\nhead: ]", "line 2"), ("a: b: c", "line 1"), ("\x00", "no YAML")]
)
def test_broken_yaml_names_file_and_line(folder: Path, text: str, words: str):
    path = folder / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ModelError, match=words) as caught:
        build_model(path)
    assert "broken.yaml" in str(caught.value)


def test_a_folder_or_bytes_are_no_description(folder: Path):
    (folder / "latin.yaml").write_bytes(b"nc: \xff")
    with pytest.raises(ModelError, match=r"latin\.yaml cannot be read"):
        read_description(folder / "latin.yaml")
    (folder / "dir.yaml").mkdir()
    with pytest.raises(ModelError, match=r"There is no model"):
        build_model("dir.yaml")


@pytest.mark.parametrize(
    "name", ["ultralytics/cfg/models/26/yolo26s.yaml", "/usr/lib/ultralytics/cfg/models/26/yolo26s.yaml"]
)
def test_the_reference_s_paths_mean_the_built_in_ones(folder: Path, name: str, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "sightline"):
        found = find_description(name)
    assert (found.path, found.letter) == (ZOO / "yolo26.yaml", "s")
    assert name in caplog.text


def test_a_file_that_is_there_wins_over_the_path_s_meaning(folder: Path):
    own = write(folder / "ultralytics" / "cfg" / "models" / "26" / "yolo26.yaml")
    assert find_description("ultralytics/cfg/models/26/yolo26n.yaml").path.resolve() == own.resolve()


def test_such_a_path_to_a_network_that_is_not_here_gets_the_hint(folder: Path):
    with pytest.raises(ModelError, match=r"no file ultralytics/cfg/models/v3/yolov3\.yaml.*built in are"):
        find_description("ultralytics/cfg/models/v3/yolov3.yaml")


def test_families_with_and_without_their_v(folder: Path, monkeypatch: pytest.MonkeyPatch):
    for file in ("yolo77.yaml", "yolov66-p2.yaml"):
        write(folder / "zoo" / file)
    monkeypatch.setattr("sightline.models.find.ZOO", folder / "zoo")
    assert find_description("yolov77n.yaml") == (folder / "zoo" / "yolo77.yaml", "n", True)
    assert find_description("yolo66m-p2") == (folder / "zoo" / "yolov66-p2.yaml", "m", True)
    assert find_description("yolo77.yaml").path.name == "yolo77.yaml"
    assert find_description("ultralytics/cfg/models/77/yolov77.yaml").letter is None
    with pytest.raises(ModelError):
        find_description("yolovv77n.yaml")
