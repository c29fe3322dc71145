"""Is an image file whole, how large is it upright, and is its label file sound?

Sane JPEG files are judged by their headers and their last bytes, sane PNG files by their checksums, without decoding a
pixel; whatever looks suspicious is decoded, as training would. No file is ever changed.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, field
from typing import IO, Any

from sightline.data.formats.yolo import LabelFileError, LabelRules, ParsedLabels, label_path, no_labels, parse_labels
from sightline.data.images import ImageError, read_image

MIN_SIDE = 10  # pixels
HEAD = 16 * 1024  # most JPEG files have their size in it, unless a thumbnail comes first


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Upright size in pixels, format, and a remark on a file that is odd but usable."""

    height: int
    width: int
    format: str
    notice: str = ""


@dataclass(slots=True)
class Pair:
    """The verdict on one image and its label file.

    labels is None when the pair is dropped. problems say why it is dropped, notices what is odd about a pair that is
    used; each text begins with the file it is about.
    """

    image: str
    height: int = 0
    width: int = 0
    labels: ParsedLabels | None = None
    missing: int = 0
    found: int = 0
    empty: int = 0
    corrupt: int = 0
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def verify_pair(image_path: str | os.PathLike[str], rules: LabelRules, *, content: bytes | None = None) -> Pair:
    """Judge an image and its label file; never raises for what is wrong with them.

    Args:
        content: the bytes of the label file, when they have been read already; b"" with no file counts as empty.
    """
    image = os.fspath(image_path)
    pair = Pair(image)
    try:
        facts = inspect_image(image)
    except ImageError as error:
        pair.corrupt = 1
        pair.problems.append(str(error))
        return pair
    pair.height, pair.width = facts.height, facts.width
    if facts.notice:
        pair.notices.append(f"{image}: {facts.notice}")
    label = label_path(image)
    if content is None:
        try:
            content = read_label_file(label)
        except OSError as error:
            pair.found = pair.corrupt = 1
            pair.problems.append(f"{label} cannot be read: {error.strerror or error}")
            return pair
    if content is None:
        pair.missing = 1
        pair.labels = no_labels(rules)
        return pair
    pair.found = 1
    try:
        pair.labels = parse_labels(content, rules)
    except LabelFileError as error:
        pair.corrupt = 1
        pair.problems += [f"{label} {problem}" for problem in error.problems]
        return pair
    pair.notices += [f"{label} {notice}" for notice in pair.labels.notices]
    pair.empty = int(len(pair.labels.rows) == 0)
    return pair


def read_label_file(path: str) -> bytes | None:
    """The bytes, or None when there is no such file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


# ------------------------------------------------------------------------------------------------- images


def inspect_image(path: str | os.PathLike[str]) -> ImageFacts:
    """Size and soundness of an image file.

    Raises:
        ImageError: missing, empty, damaged, of a format that is not on the list, or smaller than 10 pixels a side.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            facts = _inspect(file, name)
    except OSError as error:
        raise ImageError(f"{name} cannot be read: {error.strerror or error}") from error
    if min(facts.height, facts.width) < MIN_SIDE:
        raise ImageError(f"{name} is {facts.width}x{facts.height} pixels; at least {MIN_SIDE} a side are needed")
    return facts


def _inspect(file: IO[bytes], name: str) -> ImageFacts:
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise ImageError(f"{name} is empty (0 bytes)")
    head = file.read(HEAD)
    if head[:3] == b"\xff\xd8\xff":
        return _inspect_jpeg(file, head, size, name)
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return _inspect_png(file, head, size, name)
    return _inspect_other(head, name)


def _tail(file: IO[bytes], size: int, count: int) -> bytes:
    file.seek(max(size - count, 0))
    return file.read(count)


def _decoded(name: str, form: str, notice: str = "") -> ImageFacts:
    """The facts from the pixels themselves: slow, for files that look odd. Strict: a missing part is an error."""
    from PIL import Image

    if form == "JPEG":
        # OpenCV before 5 fills what is missing with grey and says nothing.
        try:
            with Image.open(name) as image:
                image.load()
        except Exception as error:
            raise ImageError(f"{name} is damaged: {error}") from error
    pixels = read_image(name)
    return ImageFacts(pixels.shape[0], pixels.shape[1], form, notice)


def _inspect_jpeg(file: IO[bytes], head: bytes, size: int, name: str) -> ImageFacts:
    found = _jpeg_header(head)
    if found is None and size > len(head):
        file.seek(0)
        found = _jpeg_header(file.read())
    if found is None:
        raise ImageError(f"{name} is damaged: the JPEG data has no frame header")
    if _tail(file, size, 2) != b"\xff\xd9":
        return _decoded(
            name, "JPEG", "bytes after the end of the JPEG data; the pixels decode, the file is used as it is"
        )
    height, width, orientation = found
    if orientation >= 5:  # lies on its side
        height, width = width, height
    return ImageFacts(height, width, "JPEG")


def _jpeg_header(data: bytes) -> tuple[int, int, int] | None:
    """(height, width, EXIF orientation) as stored, or None when `data` ends before the frame header.

    Source: ITU-T T.81, annex B (markers and segments); CIPA DC-008 (where the EXIF block lies).
    """
    at, orientation = 2, 1
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # no length follows
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header of any coding process
            if at + 9 > len(data):
                return None
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return (height, width, orientation) if height and width else None
        if marker in (0xDA, 0xD9):  # pixels or the end, and no frame header so far
            return None
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _exif_orientation(data[at + 10 : at + 2 + length])
        at += 2 + length
    return None


def _exif_orientation(block: bytes) -> int:
    """Tag 0x0112 of the first directory, 1 (upright) when there is none or it makes no sense."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return 1
    (start,) = struct.unpack_from(order + "I", block, 4)
    if start + 2 > len(block):
        return 1
    (entries,) = struct.unpack_from(order + "H", block, start)
    for i in range(entries):
        at = start + 2 + 12 * i
        if at + 12 > len(block):
            return 1
        tag, kind = struct.unpack_from(order + "HH", block, at)
        if tag == 0x0112:
            (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), block, at + 8)
            return value if 1 <= value <= 8 else 1
    return 1


def _inspect_png(file: IO[bytes], head: bytes, size: int, name: str) -> ImageFacts:
    if len(head) < 33 or head[12:16] != b"IHDR":
        raise ImageError(f"{name} is damaged: the PNG data has no header")
    width, height = struct.unpack(">II", head[16:24])
    kinds, end = _sound_png_chunks(file, size)
    if kinds[-1:] != [b"IEND"] or b"IDAT" not in kinds:
        return _decoded(
            name, "PNG", "PNG data that is cut or has a wrong checksum; the pixels decode, the file is used as it is"
        )
    if end < size:
        return _decoded(
            name, "PNG", "bytes after the end of the PNG data; the pixels decode, the file is used as it is"
        )
    if b"eXIf" in kinds:  # turned or not: what the decoder does with it is what counts
        return _decoded(name, "PNG")
    return ImageFacts(height, width, "PNG")


def _sound_png_chunks(file: IO[bytes], size: int) -> tuple[list[bytes], int]:
    """The kinds of all chunks up to IEND, or up to the first that is cut or does not have its checksum; where they end.

    Source: PNG specification (ISO/IEC 15948), 5.3 chunk layout.
    """
    kinds, at = [], 8  # behind the signature
    file.seek(at)
    while kinds[-1:] != [b"IEND"] and at + 12 <= size:
        length, kind = struct.unpack(">I4s", file.read(8))
        if at + 12 + length > size:
            break
        content, checksum = file.read(length), file.read(4)
        if zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
            break
        kinds.append(kind)
        at += 12 + length
    return kinds, at


# Pillow's names: of pixel kinds that every decoder reads, and of the formats whose suffixes are on the list.
_PLAIN_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I;16B", "I;16L"})
_FORMATS = frozenset({"AVIF", "BMP", "DIB", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "TIFF", "WEBP"})


def _inspect_other(head: bytes, name: str) -> ImageFacts:
    from PIL import Image

    try:
        with Image.open(name) as image:
            form, (width, height) = image.format or "", image.size
            plain = image.getexif().get(0x0112, 1) == 1 and image.mode in _PLAIN_MODES
            whole = _is_whole(image, head, os.path.getsize(name))
    except Exception as error:
        if head[4:8] == b"ftyp" or head[:4] in (b"II*\0", b"MM\0*"):
            return _decoded(name, "")  # OpenCV may read it, and if not, the error says which part is missing
        raise ImageError(f"{name} is damaged or not an image format that can be read here") from error
    if form not in _FORMATS:
        raise ImageError(f"{name} is a {form} file, which is not among the formats that can be used")
    return ImageFacts(height, width, form) if plain and whole else _decoded(name, form)


def _is_whole(image: Any, head: bytes, size: int) -> bool:
    """Whether the headers show that no pixel is missing; False also where only decoding can tell."""
    if image.format == "BMP":
        return size >= int.from_bytes(head[2:6], "little") > 0
    if image.format == "WEBP":
        return size >= int.from_bytes(head[4:8], "little") + 8
    if image.format == "TIFF":
        ends = [
            offset + count
            for offsets, counts in ((273, 279), (324, 325))  # strips, tiles
            for offset, count in zip(image.tag_v2.get(offsets, ()), image.tag_v2.get(counts, ()), strict=False)
        ]
        return bool(ends) and size >= max(ends)
    return False
