"""Unpacking zip and tar files that others made: nothing lands outside the folder, and nothing but files and folders."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import IO

from sightline.errors import DataError, OutputError
from sightline.files import free_space

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


def is_archive(name: str | os.PathLike[str]) -> bool:
    """By the name alone."""
    return os.fspath(name).lower().endswith(ARCHIVE_SUFFIXES)


def archive_stem(name: str | os.PathLike[str]) -> str:
    """`data/coco8.tar.gz` → `coco8`."""
    base = os.path.basename(os.fspath(name))
    for suffix in sorted(ARCHIVE_SUFFIXES, key=len, reverse=True):
        if base.lower().endswith(suffix):
            return base[: -len(suffix)]
    return base


def extract(archive: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Unpack into `folder`, which is made. The caller throws the folder away when this raises.

    Raises:
        DataError: damaged, encrypted, or with a member that is a link, a device, or leads out of the folder.
        OutputError: the contents do not fit on the disk, or the folder cannot be written.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        if zipfile.is_zipfile(archive):
            _extract_zip(Path(archive), target)
        elif tarfile.is_tarfile(archive):
            _extract_tar(Path(archive), target)
        else:
            raise DataError(f"{archive} is neither a zip nor a tar file (or is damaged).")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        if isinstance(error, (DataError, OutputError)):
            raise
        raise DataError(f"{archive} cannot be unpacked: {error}. Fetch it again.") from error
    except OSError as error:
        if isinstance(error, (DataError, OutputError)):
            raise
        raise OutputError(f"Cannot unpack {archive} into {target}: {error.strerror or error}.") from error


def _extract_zip(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        _check_space(archive, target, sum(member.file_size for member in members))
        for member in members:
            place = _place(archive, target, member.filename)
            kind = member.external_attr >> 28  # the file type of Unix, 0 where the packer had none
            if kind not in (0, 0o4, 0o10):  # folder, ordinary file
                raise DataError(f"{archive}: {member.filename} is a link or a device, which is refused.")
            if member.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            with file.open(member) as source:
                _copy(source, place)


def _extract_tar(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as file:
        free = free_space(target)
        for member in file:
            place = _place(archive, target, member.name)
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            if not member.isfile():
                raise DataError(f"{archive}: {member.name} is a link or a device, which is refused.")
            free -= member.size
            if free < 0:
                _check_space(archive, target, member.size)
            source = file.extractfile(member)
            assert source is not None  # it is a file
            with source:
                _copy(source, place)


def _place(archive: Path, target: Path, name: str) -> Path:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or "\0" in name or ":" in parts[0]:
        raise DataError(f"{archive}: member {name!r} leads out of the folder, which is refused. Do not use this file.")
    return target.joinpath(*[part for part in parts if part not in ("", ".")])


def _copy(source: IO[bytes], place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place, "wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)


def _check_space(archive: Path, target: Path, needed: int) -> None:
    free = free_space(target)
    if needed > free:
        raise OutputError(
            f"{archive} unpacks to {needed / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free in {target.parent}."
        )
