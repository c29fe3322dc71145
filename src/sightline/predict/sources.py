"""What `source=` may be, and which kind of source that makes.

A path, folder, pattern, list of paths (`.txt`, `.csv`, a Python list), address, camera number, `screen`, PIL image,
NumPy array or torch tensor.
"""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.data.formats.yolo import IMAGE_SUFFIXES
from sightline.data.images import read_image
from sightline.errors import MissingSourceError, SettingTypeError, SettingValueError, SightlineError, UsageError
from sightline.predict.files import VIDEO_SUFFIXES, FileSource, is_address, suffix_of
from sightline.predict.frames import Source
from sightline.predict.live import LiveSource, ScreenSource
from sightline.predict.memory import MemorySource, TensorSource, is_pil_image

_STREAMS = ("rtsp://", "rtmp://", "rtsps://", "tcp://", "udp://")
_KNOWN = IMAGE_SUFFIXES | VIDEO_SUFFIXES


def open_source(
    source: Any,
    *,
    batch: int = 1,
    vid_stride: int = 1,
    stream_buffer: bool = False,
    channels: int = 3,
    stride: int = 32,
) -> Source:
    """The source that a value means. Files are looked up now and read later.

    Args:
        source: see the top of this file.
        batch: pictures at a time; live sources give one frame of each stream.
        vid_stride: every how many frames of a video or stream one is taken.
        stream_buffer: live sources give every frame instead of the latest.
        channels: of the network.
        stride: of the network, for tensors.

    Raises:
        MissingSourceError: there is nothing under this name.
        SettingTypeError: a value of another kind.
        SettingValueError: an array or tensor of a wrong shape, or too few channels for the network.
    """
    if source is None:
        raise UsageError("predict needs a source: an image, a folder, a video, a list, an array or a URL.")
    if isinstance(source, Tensor):
        return TensorSource("tensor", source, batch=batch, channels=channels, stride=stride)
    if isinstance(source, np.ndarray) or is_pil_image(source):
        return MemorySource(type(source).__name__, [source], batch=batch, channels=channels)
    if isinstance(source, (list, tuple)):
        if source and all(isinstance(item, Tensor) for item in source):
            return TensorSource("tensors", _stacked(source), batch=batch, channels=channels, stride=stride)
        return _from_list(source, batch=batch, vid_stride=vid_stride, channels=channels)
    if isinstance(source, bool) or not isinstance(source, (str, int, os.PathLike)):
        raise SettingTypeError(
            f"source is a {type(source).__name__}. Allowed: a path, folder, pattern, list, address, camera number, "
            "PIL image, NumPy array (H, W, 3) BGR or torch tensor (B, 3, H, W)."
        )
    text = str(source).strip()
    try:
        addresses = [source] if isinstance(source, int) else _live_addresses(text)
        if (addresses or _is_screen(text)) and channels != 3:
            raise SettingValueError(f"source={text} has 3 channels, but the network takes {channels}.")
        if addresses:
            return LiveSource(text, addresses, vid_stride=vid_stride, buffer=stream_buffer)
        if _is_screen(text):
            return ScreenSource(text)
        return FileSource(text, find_files(text), batch=batch, vid_stride=vid_stride, channels=channels)
    except SightlineError:
        raise
    except (OSError, ValueError) as error:  # no permission, a name too long or with a zero byte
        reason = getattr(error, "strerror", None) or str(error)
        raise MissingSourceError(f"source={text[:200]!r} cannot be looked up: {reason}. Correct the path.") from error


def find_files(text: str) -> list[str]:
    """The files that a path, folder, pattern, list file or address names.

    A folder is not searched deeper; of a folder or pattern, files that are neither image nor video are left out.

    Raises:
        MissingSourceError: there is no such file, or no image or video among them.
    """
    if is_address(text):
        return [text]
    path = Path(text).expanduser()
    if path.is_dir():
        found = sorted(str(entry) for entry in path.iterdir() if entry.is_file() and suffix_of(entry.name) in _KNOWN)
        if not found:
            deeper = any(entry.is_dir() for entry in path.iterdir())
            advice = (
                f"Name one of its subfolders, or use the pattern {path / '**' / '*.jpg'}." if deeper else _suffixes()
            )
            raise MissingSourceError(f"source={text}: no image or video in this folder. {advice}")
        return found
    if path.is_file():
        return _from_list_file(path) if suffix_of(path.name) in ("txt", "csv") else [str(path)]
    if glob.has_magic(text):
        matches = sorted(glob.glob(str(path), recursive=True))
        found = [match for match in matches if suffix_of(match) in _KNOWN and Path(match).is_file()]
        if not found:
            others = f" ({len(matches)} other files)" if matches else ""
            raise MissingSourceError(f"source={text}: no image or video matches this pattern{others}. {_suffixes()}")
        return found
    where = "" if path.is_absolute() else f" below {Path.cwd()}"
    raise MissingSourceError(f"source={text}: there is no such file or folder{where}. Correct the path.")


def _from_list(items: Sequence[Any], *, batch: int, vid_stride: int, channels: int) -> Source:
    """A Python list holds either paths and addresses, or pictures, or some of both."""
    if not items:
        raise MissingSourceError("source is an empty list: there is nothing to predict on.")
    paths = [isinstance(item, (str, os.PathLike)) for item in items]
    if all(paths):
        files = [file for item in items for file in _files_or_itself(str(item))]
        return FileSource(f"{len(items)} paths", files, batch=batch, vid_stride=vid_stride, channels=channels)
    # Files are read later, arrays are here already: to keep the order of a mixed list, its files are read now.
    files = [str(item) if is_path else None for item, is_path in zip(items, paths, strict=True)]
    items = [item if file is None else read_image(file, channels) for item, file in zip(items, files, strict=True)]
    return MemorySource(f"{len(items)} images", items, batch=batch, channels=channels, paths=files)


def _files_or_itself(text: str) -> list[str]:
    """One name of a list that is wrong is skipped like an unreadable image, and said then."""
    try:
        return find_files(text)
    except MissingSourceError:
        return [text]


def _stacked(images: Sequence[Tensor]) -> Tensor:
    """(C, H, W) and (B, C, H, W) tensors of one size → (B, C, H, W)."""
    batches = [image[None] if image.ndim == 3 else image for image in images]
    if len({tuple(batch.shape[1:]) for batch in batches}) > 1:
        raise SettingValueError(
            f"source: tensors of shapes {sorted({tuple(image.shape) for image in images})}; they must have one shape. "
            "NumPy arrays may differ in size: they are letterboxed."
        )
    return torch.cat(batches)


def _from_list_file(file: Path) -> list[str]:
    """A path a line (first column of a CSV), from the working directory or else from the folder of the list."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SettingValueError(f"source={file}: not a text file with one path a line ({error}).") from error
    if suffix_of(file.name) == "csv":
        lines = [row[0] for row in csv.reader(lines) if row]
    paths = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    # A heading is not a file, and has none of their suffixes either.
    if suffix_of(file.name) == "csv" and paths and suffix_of(paths[0]) not in _KNOWN and not Path(paths[0]).exists():
        paths = paths[1:]
    if not paths:
        raise MissingSourceError(f"source={file}: the list is empty. It should hold one path or address a line.")
    return [path if is_address(path) or Path(path).exists() else str(_beside(file, path)) for path in paths]


def _beside(file: Path, path: str) -> Path:
    near = file.parent / path
    return near if near.exists() else Path(path)


def _live_addresses(text: str) -> list[str | int]:
    """Cameras and streams that the text names; empty when it names files."""
    if text.isdigit() and not Path(text).exists():
        return [int(text)]
    if text.lower().startswith(_STREAMS):
        return [text]
    if suffix_of(text) == "streams" and Path(text).is_file():
        lines = [line.strip() for line in Path(text).read_text(encoding="utf-8").splitlines()]
        found: list[str | int] = [int(line) if line.isdigit() else line for line in lines if line]
        if not found:
            raise MissingSourceError(f"source={text}: the list is empty. It should hold one address a line.")
        return found
    if is_address(text):
        if any(f"//{host}" in text.lower() for host in ("youtu.be/", "youtube.com/", "www.youtube.com/")):
            raise UsageError(f"source={text} is a web page, not a video. Download the video and give its path.")
        if suffix_of(text) not in _KNOWN:
            return [text]
    return []


def _is_screen(text: str) -> bool:
    return text.split()[:1] == ["screen"] and not Path(text).exists()


def _suffixes() -> str:
    return f"Images end in {', '.join(sorted(IMAGE_SUFFIXES))}; videos in {', '.join(sorted(VIDEO_SUFFIXES))}."
