"""Image files are judged by their headers where that is enough, and by their pixels where it is not."""

from __future__ import annotations

import struct
import time
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sightline.data import verify
from sightline.data.formats.yolo import LabelRules
from sightline.data.images import ImageError, read_image
from sightline.data.verify import inspect_image, verify_pair

RULES = LabelRules("detect", 3, None, False, "animals.yaml")


def encoded(form: str, size: tuple[int, int] = (50, 30), **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("form", "suffix", "options"),
    [
        ("JPEG", "jpg", {}),
        ("JPEG", "jpg", {"progressive": True}),
        ("JPEG", "jpg", {"comment": b"x" * 40_000}),  # the frame header is not in the first block
        ("PNG", "png", {}),
        ("BMP", "bmp", {}),
        ("TIFF", "tif", {}),
        ("TIFF", "tif", {"compression": "tiff_lzw"}),
        ("WEBP", "webp", {}),
        ("JPEG2000", "jp2", {}),
        ("MPO", "mpo", {}),
    ],
)
def test_sizes_agree_with_the_decoder(tmp_path: Path, form: str, suffix: str, options: dict):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(encoded(form, **options))
    facts = inspect_image(path)
    assert (facts.height, facts.width) == read_image(path).shape[:2] == (30, 50)
    assert facts.notice == ""


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_images_have_the_size_the_decoder_gives(tmp_path: Path, form: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{form.lower()}"
    path.write_bytes(encoded(form, exif=exif))
    facts = inspect_image(path)
    assert (facts.height, facts.width) == read_image(path).shape[:2]
    if form == "JPEG":
        assert (facts.height, facts.width) == ((30, 50) if orientation < 5 else (50, 30))


def test_sane_files_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for form in ("JPEG", "PNG", "BMP", "WEBP", "TIFF"):
        (tmp_path / f"a.{form.lower()}").write_bytes(encoded(form))

    def refuse(*_args, **_options):
        raise AssertionError("decoded")

    monkeypatch.setattr(verify, "read_image", refuse)
    for path in tmp_path.iterdir():
        inspect_image(path)


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "JPEG2000"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_cut_files_are_refused(tmp_path: Path, form: str, kept: float):
    content = encoded(form)
    path = tmp_path / f"cut.{form.lower()}"
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ImageError, match=r"cut\."):
        inspect_image(path)


def test_bytes_after_the_end_are_mentioned(tmp_path: Path):
    for form in ("JPEG", "PNG"):
        path = tmp_path / f"a.{form.lower()}"
        path.write_bytes(encoded(form) + b"\0" * 20)
        assert "after the end" in inspect_image(path).notice


def chunk(kind: bytes, content: bytes, *, checksum: int | None = None) -> bytes:
    """As the PNG specification lays it out."""
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_damage_inside_a_png_is_found(tmp_path: Path, place: float):
    content = bytearray(encoded("PNG", (80, 60)))
    at = int(len(content) * place)
    content[at : at + 32] = bytes(32)
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png"):
        read_image(tmp_path / "a.png")  # so a run must not begin with it
    with pytest.raises(ImageError, match=r"a\.png"):
        inspect_image(tmp_path / "a.png")


def test_a_png_without_pixels_is_refused(tmp_path: Path):
    content = encoded("PNG")
    (tmp_path / "a.png").write_bytes(content[:33] + chunk(b"IEND", b""))  # the signature, IHDR, IEND
    with pytest.raises(ImageError, match=r"a\.png"):
        inspect_image(tmp_path / "a.png")


def test_a_wrong_checksum_beside_sound_pixels_is_mentioned(tmp_path: Path):
    content = encoded("PNG")
    (tmp_path / "a.png").write_bytes(content[:33] + chunk(b"teSt", b"by some tool", checksum=1) + content[33:])
    facts = inspect_image(tmp_path / "a.png")
    assert (facts.height, facts.width) == (30, 50)
    assert "wrong checksum" in facts.notice
    (tmp_path / "a.png").write_bytes(content[:33] + chunk(b"teSt", b"by some tool") + content[33:])
    assert inspect_image(tmp_path / "a.png").notice == ""


def test_a_png_is_turned_by_an_exif_chunk_anywhere(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    content = encoded("PNG", exif=exif)
    (tmp_path / "a.png").write_bytes(content[:33] + chunk(b"teSt", bytes(20_000)) + content[33:])
    facts = inspect_image(tmp_path / "a.png")
    assert (facts.height, facts.width) == read_image(tmp_path / "a.png").shape[:2] == (50, 30)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"a\.jpg cannot be read: No such file"),
        (b"", r"a\.jpg is empty \(0 bytes\)"),
        (b"no image at all", r"a\.jpg is damaged or not an image format"),
        (b"\xff\xd8\xff\xe0", r"a\.jpg is damaged: the JPEG data has no frame header"),
        (encoded("GIF"), r"a\.jpg is a GIF file, which is not among"),
        (encoded("PNG", (9, 40)), r"a\.jpg is 9x40 pixels; at least 10 a side"),
        (encoded("JPEG", (40, 9)), r"a\.jpg is 40x9 pixels"),
    ],
)
def test_unusable_images_say_why(tmp_path: Path, content: bytes | None, said: str):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=said):
        inspect_image(path)


def test_damaged_exif_counts_as_upright(tmp_path: Path):
    content = encoded("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    (tmp_path / "a.jpg").write_bytes(content)
    assert inspect_image(tmp_path / "a.jpg").height == 30


def test_samples_that_training_cannot_use_are_refused(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "f.tiff"), np.zeros((20, 30, 3), np.float32))
    with pytest.raises(ImageError, match="float32"):
        inspect_image(tmp_path / "f.tiff")


def test_a_pair_names_file_and_line(tmp_path: Path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(encoded("JPEG"))
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .1 .1\n0 .5 .5 .1 .1\n")
    pair = verify_pair(tmp_path / "images" / "a.jpg", RULES)
    assert pair.notices == [f"{tmp_path / 'labels' / 'a.txt'} line 2: 1 duplicate label removed"]
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .1 .1\n4 .5 .5 .1 .1\n")
    pair = verify_pair(tmp_path / "images" / "a.jpg", RULES)
    label = tmp_path / "labels" / "a.txt"
    assert pair.problems == [f"{label} line 2: class 4, but animals.yaml names 3 classes (0-2)"]
    (tmp_path / "labels" / "a.txt").unlink()
    (tmp_path / "labels" / "a.txt").mkdir()
    pair = verify_pair(tmp_path / "images" / "a.jpg", RULES)
    assert (pair.found, pair.corrupt) == (1, 1)
    assert "cannot be read" in pair.problems[0]


def test_ten_thousand_images_take_seconds(tmp_path: Path):
    """A large JPEG costs no more than a small one: 200 of 2000 × 2000 px in less time than decoding 20 of them."""
    content = encoded("JPEG", (2000, 2000), quality=50)
    (tmp_path / "a.jpg").write_bytes(content)
    start = time.perf_counter()
    for _ in range(200):
        inspect_image(tmp_path / "a.jpg")
    assert time.perf_counter() - start < 1.0
