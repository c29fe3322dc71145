"""Data set descriptions: keys, paths, names, archives, downloads declared as data."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from golden.golden import shared_data
from local_server import Server, serving
from sightline.data import obtain
from sightline.data.archives import extract
from sightline.data.spec import DatasetSpec, load_dataset_spec
from sightline.errors import DataError, DownloadError, MissingFileError, OutputError


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SIGHTLINE_ASSETS_URL", raising=False)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


def write(file: Path, /, **keys) -> Path:
    """A data YAML; keys given as None are left out."""
    values = {"train": "images/train", "val": "images/val", "names": ["ant", "bee"]} | keys
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        yaml.safe_dump({key: value for key, value in values.items() if value is not None}), encoding="utf-8"
    )
    return file


def fill(root: Path, splits: tuple[str, ...] = ("train", "val")) -> Path:
    for split in splits:
        (root / "images" / split).mkdir(parents=True, exist_ok=True)
        (root / "images" / split / "a.jpg").touch()
    return root


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------- keys


def test_a_plain_description(tmp_path: Path):
    root = fill(tmp_path / "my dätä")
    spec = load_dataset_spec(write(root / "animals.yaml", test=["images/val", "more.txt"]))
    assert spec.root == root
    assert spec.names == {0: "ant", 1: "bee"}
    assert (spec.nc, spec.channels, spec.kpt_shape) == (2, 3, None)
    assert spec.splits["test"] == [root / "images/val", root / "more.txt"]
    assert spec.images("val") == [str(root / "images/val/a.jpg")]
    data = spec.as_dict()
    assert data["train"] == str(root / "images/train")
    assert data["test"] == [str(root / "images/val"), str(root / "more.txt")]
    assert (data["path"], data["yaml_file"]) == (str(root), str(root / "animals.yaml"))
    assert DatasetSpec.from_dict(data) == spec
    assert load_dataset_spec(data) == spec  # what the trainer holds can be given again


def test_names_from_a_count_and_words_that_old_yaml_takes_for_truth(tmp_path: Path):
    root = fill(tmp_path)
    assert load_dataset_spec(write(root / "a.yaml", names=None, nc=2.0)).names == {0: "class_0", 1: "class_1"}
    (root / "b.yaml").write_text("train: images/train\nval: images/val\nnames: [no, on, 3]\n")
    assert load_dataset_spec(root / "b.yaml").names == {0: "no", 1: "on", 2: "3"}
    assert load_dataset_spec(write(root / "c.yaml", names={"1": "b", "0": "a"})).names == {0: "a", 1: "b"}


def test_keypoint_keys(tmp_path: Path):
    keys = {"kpt_shape": [2, 3], "flip_idx": [1, 0], "kpt_oks_sigmas": [0.1, 0.2]}
    spec = load_dataset_spec(write(fill(tmp_path) / "a.yaml", **keys))
    assert (spec.kpt_shape, spec.flip_idx) == ((2, 3), (1, 0))
    assert {key: spec.as_dict()[key] for key in keys} == keys


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"train": None}, r"a\.yaml has no `train`"),
        ({"val": None, "vall": "images/val"}, r"has no `val` \(but `vall`\)"),
        ({"names": None}, r"has neither `names` nor `nc`"),
        ({"names": None, "classes": ["a"]}, r"has neither `names`"),
        ({"names": "ant"}, r"`names` is text \('ant'\), it should be a list or a mapping"),
        ({"names": []}, r"`names` is empty"),
        ({"names": {0: "a", 2: "b"}}, r"keys of `names` should be 0 … 1 without a gap.*found 0, 2"),
        ({"names": {"a": "ant"}}, r"keys of `names` should be 0, 1, 2, …; found \['a'\]"),
        ({"nc": 3}, r"`nc` is 3, but `names` has 2 classes"),
        ({"nc": 2.5}, r"`nc` is 2\.5; it should be the number of classes"),
        ({"nc": 0, "names": None}, r"`nc` is 0"),
        ({"train": 3}, r"`train` is int \(3\), it should be text or a list"),
        ({"train": [["x"]]}, r"every item of `train` should be the path"),
        ({"path": ["x"]}, r"`path` is a list, it should be text"),
        ({"channels": "3"}, r"`channels` is text \('3'\), it should be a whole number"),
        ({"channels": 0}, r"`channels` is 0"),
        ({"kpt_shape": 17}, r"`kpt_shape` is int \(17\), it should be a list"),
        ({"kpt_shape": [17, 4]}, r"`kpt_shape` is \[17, 4\]; it should be \[K, 2\]"),
        ({"kpt_shape": [2, 3], "flip_idx": [0, 0]}, r"`flip_idx` should have each of 0 … 1 once"),
        ({"kpt_shape": [2, 3], "kpt_oks_sigmas": [0.1]}, r"`kpt_oks_sigmas` should have 2 numbers above 0"),
        (
            {"kpt_shape": [2, 3], "kpt_sigmas": [0.1, 0]},
            r"`kpt_sigmas` should have 2 numbers above 0.*found \[0.1, 0\]",
        ),
        ({"kpt_sigmas": [0.1]}, r"`kpt_sigmas` needs `kpt_shape"),
        (
            {"kpt_shape": [1, 2], "kpt_sigmas": [0.1], "kpt_oks_sigmas": [0.2]},
            r"`kpt_oks_sigmas` and `kpt_sigmas` mean the same, but differ",
        ),
    ],
)
def test_wrong_keys_name_file_key_and_expectation(tmp_path: Path, keys: dict, said: str):
    with pytest.raises(DataError, match=said) as caught:
        load_dataset_spec(write(fill(tmp_path) / "a.yaml", **keys))
    assert "a.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"- a\n- b\n", r"should have lines `key: value`"),
        (b"names: [a\n", r"is not valid YAML: .*line 2"),
        (b"\xff\xfe", r"is not UTF-8 text"),
        (b"", r"holds nothing"),
        (
            b"names: !!python/object/apply:os.system [touch hacked]\n",
            r"is not valid YAML: could not determine a constructor",
        ),
    ],
)
def test_files_that_are_no_description(tmp_path: Path, content: bytes, said: str):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(DataError, match=said):
        load_dataset_spec(tmp_path / "a.yaml")
    assert not Path("hacked").exists()


def test_validation_is_read_as_val_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write(fill(tmp_path) / "a.yaml", val=None, validation="images/val")
    assert load_dataset_spec(tmp_path / "a.yaml").entries("val") == [tmp_path / "images/val"]
    assert "`validation` is read as `val`" in caplog.text


# ------------------------------------------------------------------------------------------------- paths


def test_a_relative_path_beside_the_yaml_comes_first(tmp_path: Path):
    beside, here = tmp_path / "sets" / "pets", tmp_path / "cwd" / "pets"
    write(tmp_path / "sets" / "a.yaml", path="pets")
    with pytest.raises(MissingFileError, match=r"val: .*pets/images/val does not exist.*tried beside the YAML file"):
        load_dataset_spec("../sets/a.yaml")
    datasets = fill(tmp_path / "cache" / "datasets" / "pets")
    assert load_dataset_spec("../sets/a.yaml").root == datasets
    fill(here)
    assert load_dataset_spec("../sets/a.yaml").root == here
    beside.mkdir()  # an empty folder of that name is not the data set
    assert load_dataset_spec("../sets/a.yaml").root == here
    fill(beside)
    assert load_dataset_spec("../sets/a.yaml").root == beside
    absolute = fill(tmp_path / "elsewhere")
    assert load_dataset_spec(write(tmp_path / "b.yaml", path=str(absolute))).root == absolute


def test_exports_that_point_one_folder_too_high(tmp_path: Path):
    root = fill(tmp_path / "export")
    spec = load_dataset_spec(write(root / "data.yaml", train="../images/train", val="../images/val"))
    assert spec.entries("train") == [root / "images/train"]


def test_only_the_split_in_question_must_be_there(tmp_path: Path):
    write(fill(tmp_path, ("val",)) / "a.yaml")
    spec = load_dataset_spec(tmp_path / "a.yaml")
    with pytest.raises(MissingFileError, match=r"train: .*images/train does not exist"):
        spec.images("train")
    with pytest.raises(MissingFileError, match=r"names no images for split=test; it has train, val"):
        load_dataset_spec(tmp_path / "a.yaml", split="test")


# ------------------------------------------------------------------------------------------------- what data= may be


def test_with_or_without_suffix_a_folder_or_a_dictionary(tmp_path: Path):
    root = fill(tmp_path / "pets")
    write(root / "pets.yaml")
    for data in (root / "pets.yaml", root / "pets", root):
        assert load_dataset_spec(data).root == root
    write(root / "other.yaml")
    assert load_dataset_spec(root).yaml_path == root / "pets.yaml"  # the one called like the folder
    assert load_dataset_spec({"path": root, "train": "images/train", "val": "images/val", "names": ["a"]}).root == root
    (root / "pets.yaml").rename(root / "third.yml")
    with pytest.raises(DataError, match=r"exactly one YAML file.*found other\.yaml, third\.yml"):
        load_dataset_spec(root)


def test_unknown_names_get_near_ones(tmp_path: Path):
    with pytest.raises(
        MissingFileError, match=r"data=coco8x\.yaml: no such file.*Did you mean coco8.*Built-in data sets: VOC"
    ):
        load_dataset_spec("coco8x.yaml")
    write(Path("animals.yaml"))
    with pytest.raises(MissingFileError, match=r"Did you mean animals\.yaml"):
        load_dataset_spec("animal.yaml")
    with pytest.raises(MissingFileError, match=r"the folder nowhere does not exist"):
        load_dataset_spec("nowhere/animals.yaml")
    Path("weights.pt").touch()
    with pytest.raises(DataError, match=r"data=weights\.pt is a \.pt file"):
        load_dataset_spec("weights.pt")


@pytest.mark.parametrize("name", obtain.built_in_names())
def test_built_in_descriptions_are_sound(name: str):
    values = yaml.safe_load((obtain.built_in_folder() / f"{name}.yaml").read_text())
    spec = DatasetSpec.from_dict(values)
    assert spec.nc == len(values["names"])
    files, _, make = obtain._declaration(values["download"], str(obtain.built_in_folder() / f"{name}.yaml"))
    assert files or make
    assert all(file["url"].startswith(("http://", "https://")) for file in files)


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tgz", "tar.xz"])
def test_an_archive(tmp_path: Path, suffix: str):
    root = fill(tmp_path / "pack" / "pets")
    write(root / "pets.yaml", path="/somewhere/else")  # where its maker had it
    archive = tmp_path / f"pets.{suffix}"
    if suffix == "zip":
        archive.write_bytes(packed({str(path.relative_to(tmp_path / "pack")): path.read_bytes()
                                    for path in root.rglob("*") if path.is_file()}))  # fmt: skip
    else:
        mode = {"tar": "w", "tar.gz": "w:gz", "tgz": "w:gz", "tar.xz": "w:xz"}[suffix]
        with tarfile.open(archive, mode) as file:
            file.add(root, "pets")
    spec = load_dataset_spec(archive)
    assert spec.root == tmp_path / "cache" / "datasets" / "pets" / "pets"
    assert len(spec.images("train")) == 1
    before = spec.root.stat().st_ino
    assert load_dataset_spec(archive).root.stat().st_ino == before  # not unpacked again
    archive.write_bytes(packed({"new/new.yaml": b"train: .\nval: .\nnames: [a]\n", "new/b.png": b""}))
    assert load_dataset_spec(archive).root.name == "new"


def test_an_address_of_an_archive_or_yaml(server: Server):
    description = b"path: nowhere\ntrain: images\nval: images\nnames: [a]\n"
    server.files["pets.zip"] = packed({"pets/data.yaml": description, "pets/images/a.jpg": b"x"})
    spec = load_dataset_spec(f"{server.url}/pets.zip")
    assert len(spec.images("val")) == 1
    server.files.clear()
    assert load_dataset_spec(f"{server.url}/pets.zip") == spec  # from the disk
    server.files["far.yaml"] = b"path: far\ntrain: t\nval: v\nnames: [a]\ndownload: " + f"{server.url}/far.zip".encode()
    server.files["far.zip"] = packed({"far/t/a.jpg": b"", "far/v/b.jpg": b""})
    assert len(load_dataset_spec(f"{server.url}/far.yaml").images("val")) == 1
    with pytest.raises(DataError, match=r"should end in \.yaml, \.zip"):
        load_dataset_spec(f"{server.url}/page.html")


# ------------------------------------------------------------------------------------------------- archives


HOSTILE = ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_nothing_leaves_the_folder(tmp_path: Path, name: str, kind: str):
    archive = tmp_path / f"x.{kind}"
    if kind == "zip":
        archive.write_bytes(packed({name: b"x"}))
    else:
        with tarfile.open(archive, "w") as file:
            file.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(DataError, match="leads out of the folder"):
        extract(archive, tmp_path / "in" / "out")
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_tar_files_are_refused(tmp_path: Path, kind: bytes):
    member = tarfile.TarInfo("link")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        file.addfile(member)
    with pytest.raises(DataError, match="link is a link or a device"):
        extract(tmp_path / "x.tar", tmp_path / "out")


def test_links_in_zip_files_are_refused(tmp_path: Path):
    member = zipfile.ZipInfo("link")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(member, "/etc/passwd")
    with pytest.raises(DataError, match="link is a link or a device"):
        extract(tmp_path / "x.zip", tmp_path / "out")


def test_contents_larger_than_the_disk_are_refused_before_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(10_000_000))
    monkeypatch.setattr("sightline.data.archives.free_space", lambda _: 5_000_000)
    with pytest.raises(OutputError, match=r"bomb\.zip unpacks to 0\.01 GB, but only 0\.01 GB are free"):
        extract(tmp_path / "bomb.zip", tmp_path / "out")


def test_damaged_archives_are_named(tmp_path: Path):
    (tmp_path / "x.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"x\.zip is neither a zip nor a tar file"):
        extract(tmp_path / "x.zip", tmp_path / "out")
    content = bytearray(packed({"a": bytes(1000)}))
    content[60] ^= 1
    (tmp_path / "y.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"y\.zip cannot be unpacked"):
        extract(tmp_path / "y.zip", tmp_path / "out")
    assert not list((tmp_path / "cache").rglob("*")) if (tmp_path / "cache").exists() else True


# ------------------------------------------------------------------------------------------------- downloads


def coco8() -> bytes:
    files = {f"coco8/{kind}/{split}/0.{suffix}": b"0 .5 .5 .1 .1" for split in ("train", "val")
             for kind, suffix in (("images", "jpg"), ("labels", "txt"))}  # fmt: skip
    return packed(files)


def test_a_built_in_set_comes_from_the_mirror(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIGHTLINE_ASSETS_URL", server.url)
    server.files["coco8.zip"] = coco8()
    for name in ("coco8", "coco8.yaml", "COCO8"):
        spec = load_dataset_spec(name)
    assert spec.root == tmp_path / "cache" / "datasets" / "coco8"
    assert len(spec.images("train")) == 1
    assert len(server.asked) == 1
    assert sorted(path.name for path in (tmp_path / "cache" / "datasets").iterdir() if path.is_dir()) == [
        ".downloads",
        "coco8",
    ]
    assert not [path for path in (tmp_path / "cache" / "datasets" / ".downloads").iterdir() if path.suffix == ".zip"]


def test_the_datasets_folder_can_be_moved(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIGHTLINE_ASSETS_URL", server.url)
    monkeypatch.setenv("SIGHTLINE_DATASETS", str(tmp_path / "big disk"))
    server.files["coco8.zip"] = coco8()
    assert load_dataset_spec("coco8").root == tmp_path / "big disk" / "coco8"


def test_without_a_network_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIGHTLINE_ASSETS_URL", "http://127.0.0.1:9")
    with pytest.raises(
        DownloadError, match=r"(?s)Cannot fetch http://127.0.0.1:9/coco8\.zip.*put the file at .*coco8\.zip"
    ):
        load_dataset_spec("coco8")
    with pytest.raises(MissingFileError, match="does not exist"):
        load_dataset_spec("coco8", autodownload=False)


@pytest.mark.parametrize(
    "text", ["bash get_data.sh", "import os; os.system('touch hacked')", "from x import y\ny()\n", "ftp://x/y.zip"]
)
def test_code_is_not_executed(tmp_path: Path, text: str):
    path = write(tmp_path / "a.yaml", download=text)
    with pytest.raises(DataError, match=r"a\.yaml: the data is not there, and `download` holds Python or shell text"):
        load_dataset_spec(path)
    assert not Path("hacked").exists()
    fill(tmp_path)
    assert load_dataset_spec(path).nc == 2  # with the data there, nobody minds the text


def test_a_users_archive_address(server: Server, tmp_path: Path):
    server.files["pets.zip"] = packed({"images/train/a.jpg": b"", "images/val/a.jpg": b""})
    write(tmp_path / "a.yaml", path="pets", download=f"{server.url}/pets.zip")
    assert load_dataset_spec(tmp_path / "a.yaml").root == tmp_path / "cache" / "datasets" / "pets"


def test_an_archive_without_the_images_says_what_it_has(server: Server, tmp_path: Path):
    server.files["pets.zip"] = packed({"pictures/train/a.jpg": b""})
    write(tmp_path / "a.yaml", path="pets", download=f"{server.url}/pets.zip")
    with pytest.raises(DataError, match=r"val: .*images/val is still not there; .*pets has pictures"):
        load_dataset_spec(tmp_path / "a.yaml")


def test_a_page_instead_of_an_archive_leaves_nothing_behind(server: Server, tmp_path: Path):
    server.files["pets.zip"] = b"<html>please log in</html>"
    write(tmp_path / "a.yaml", path="pets", download=f"{server.url}/pets.zip")
    with pytest.raises(DataError, match=r"pets\.zip is neither a zip nor a tar file"):
        load_dataset_spec(tmp_path / "a.yaml")
    left = [
        path.name for path in (tmp_path / "cache" / "datasets").rglob("*") if path.is_file() and path.suffix != ".lock"
    ]
    assert left == []


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"files": [{"url": "https://x/y.exe"}]}, "needs a `url` of a zip or tar file"),
        ({"files": [{"url": "https://x/y.zip", "into": "../z"}]}, "should be a folder inside the data set"),
        ({"files": [], "run": "x"}, "should be an address, or have the keys files, convert, make"),
        ({"convert": "magic"}, "should be one of voc, visdrone, coco"),
        (7, "should be an address"),
    ],
)
def test_wrong_download_declarations(tmp_path: Path, declared: object, said: str):
    with pytest.raises(DataError, match=said):
        load_dataset_spec(write(tmp_path / "a.yaml", download=declared))


def jpeg(width: int, height: int) -> bytes:
    import cv2

    return cv2.imencode(".jpg", np.full((height, width, 3), 99, np.uint8))[1].tobytes()


def test_visdrone_is_converted(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIGHTLINE_ASSETS_URL", server.url)
    for name in ("VisDrone2019-DET-train", "VisDrone2019-DET-val", "VisDrone2019-DET-test-dev"):
        server.files[f"{name}.zip"] = packed(
            {f"{name}/images/a.jpg": jpeg(100, 50), f"{name}/annotations/a.txt": b"10,10,20,30,1,4,0,0\n"}
        )
    spec = load_dataset_spec("VisDrone")
    assert len(spec.images("test")) == 1
    assert (spec.root / "labels" / "train" / "a.txt").read_text() == "3 0.200000 0.500000 0.200000 0.600000\n"


def test_voc_is_converted(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    annotation = (
        "<annotation><size><width>100</width><height>50</height></size><object><name>cat</name><bndbox>"
        "<xmin>11</xmin><ymin>1</ymin><xmax>30</xmax><ymax>50</ymax></bndbox></object></annotation>"
    )
    files = []
    for name, year, splits in (("a", 2007, ("train", "val")), ("b", 2007, ("test",)), ("c", 2012, ("train", "val"))):
        base = f"VOCdevkit/VOC{year}"
        content: dict[str, bytes] = {}
        for split in splits:
            content |= {f"{base}/ImageSets/Main/{split}.txt": f"{split}1\n".encode(),
                        f"{base}/Annotations/{split}1.xml": annotation.encode(),
                        f"{base}/JPEGImages/{split}1.jpg": jpeg(100, 50)}  # fmt: skip
        server.files[f"{name}.zip"] = packed(content)
        files.append({"url": f"{server.url}/{name}.zip"})
    values = yaml.safe_load((obtain.built_in_folder() / "VOC.yaml").read_text())
    values["download"]["files"] = files
    (tmp_path / "VOC.yaml").write_text(yaml.safe_dump(values))
    spec = load_dataset_spec(tmp_path / "VOC.yaml")
    assert len(spec.images("train")) == 4
    label = spec.root / "labels" / "test2007" / "test1.txt"
    assert label.read_text() == "7 0.200000 0.500000 0.200000 1.000000\n"


# ------------------------------------------------------------------------------------------------- real data


@pytest.mark.parametrize(("name", "train", "val"), [("bccd", 205, 87), ("coco-mini", None, None)])
def test_real_data(name: str, train: int | None, val: int | None):
    from sightline.data.index import build_index

    root = shared_data(name)
    spec = load_dataset_spec(root / f"{name}.yaml")
    for split, count in (("train", train), ("val", val)):
        images = spec.images(split)
        index = build_index(images, spec, cache=False)
        assert index.report.corrupt == 0
        assert len(index) == len(images) == (count or len(images))
        lines = sum(len(path.read_text().split("\n")) - 1 for path in (root / "labels" / split).glob("*.txt"))
        assert abs(index.object_counts().sum() - lines) <= len(index.report.notices)
        assert os.fspath(root) in index.paths[0]
