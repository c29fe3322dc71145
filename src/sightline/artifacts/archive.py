"""The zip container of a `.pt` file, opened with suspicion.

torch writes one folder of uncompressed members: `data.pkl` and one file a storage under `data/`. Whatever does not look
like that is refused before a byte of it is used, so that no declared size can cost more memory than the file itself.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path
from types import TracebackType

# yolo26n.pt: 718 members and a pickle of 0.2 MB; the largest families stay below ten times that.
MAX_MEMBERS = 50_000
MAX_PICKLE_BYTES = 16 * 2**20


DAMAGED = "The file is damaged or of another kind: copy or download it again."


class Unreadable(Exception):
    """What was found in a file, in words for its reader; whoever knows the path makes a CheckpointError of it.

    Args:
        advice: what the reader can do about it.
    """

    def __init__(self, found: str, *, advice: str = DAMAGED) -> None:
        super().__init__(found)
        self.advice = advice


UNSAFE = (
    "Do not use it: somebody made it to do harm, or to test whether we notice. Get the weights from a source you trust."
)
OLD = "Load it with the program that made it and save `model.state_dict()` again with torch 1.6 or later."


class TorchArchive:
    """The members of a `.pt` file. Use as a context manager.

    Raises:
        Unreadable: not a zip file, or one that torch would not write.
    """

    def __init__(self, path: Path) -> None:
        self._size = regular_file_size(path)
        _check_magic(path)
        _check_directory(path, self._size)
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise Unreadable(f"its zip directory is damaged ({error})") from error
        try:
            self._members = self._checked_members()
            self._folder = self._find_folder()
            self._check_byte_order()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> TorchArchive:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._zip.close()

    @property
    def total_bytes(self) -> int:
        """Of all storages together; no more than the size of the file."""
        return sum(info.file_size for info in self._members.values())

    def pickle(self) -> bytes:
        """The one pickle of the file."""
        info = self._members[f"{self._folder}data.pkl"]
        if info.file_size > MAX_PICKLE_BYTES:
            found, allowed = info.file_size / 2**20, MAX_PICKLE_BYTES // 2**20
            raise Unreadable(f"its description alone takes {found:.0f} MB, and no model needs more than {allowed}")
        return self._read(info)

    def check_storage(self, key: str, size: int) -> None:
        """Compare the bytes of a storage with what the description says.

        Raises:
            Unreadable: they differ, or there is no such storage.
        """
        found = self._storage(key).file_size
        if found != size:
            raise Unreadable(f"the storage {key!r} should have {size} bytes, and the file holds {found}")

    def storage(self, key: str) -> bytearray:
        """The bytes of a storage, in memory of their own that tensors may share."""
        return bytearray(self._read(self._storage(key)))

    def verify(self) -> None:
        """Compare every member with its checksum.

        Raises:
            Unreadable: one differs.
        """
        try:
            damaged = self._zip.testzip()
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
            raise Unreadable(f"one of its members is damaged ({error})") from error
        if damaged is not None:
            raise Unreadable(f"its member {damaged} does not have its checksum any more")

    def _storage(self, key: str) -> zipfile.ZipInfo:
        info = self._members.get(f"{self._folder}data/{key}")
        if info is None:
            raise Unreadable(f"the storage {key!r} that its description names is missing")
        return info

    def _read(self, info: zipfile.ZipInfo) -> bytes:
        try:
            return self._zip.read(info)  # checks the CRC
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
            raise Unreadable(f"its member {info.filename} is damaged ({error})") from error

    def _checked_members(self) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            name = info.filename
            if name.startswith(("/", "\\")) or "\\" in name or ":" in name or ".." in name.split("/"):
                raise Unreadable(f"its member {name!r} points outside of the file", advice=UNSAFE)
            if stat.S_ISLNK(info.external_attr >> 16):
                raise Unreadable(f"its member {name!r} is a symbolic link", advice=UNSAFE)
            if info.flag_bits & 1:
                raise Unreadable(f"its member {name!r} is encrypted")
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise Unreadable(
                    f"its member {name!r} is compressed ({info.file_size} bytes unpacked), and torch never does that"
                )
            if name in members:
                raise Unreadable(f"it has two members called {name!r}")
            members[name] = info
        total = sum(info.file_size for info in members.values())
        if total > self._size:
            raise Unreadable(f"its members claim {total} bytes, and the file has {self._size}")
        return members

    def _find_folder(self) -> str:
        folders = [name[: -len("data.pkl")] for name in self._members if name.split("/")[1:] == ["data.pkl"]]
        if len(folders) != 1:
            raise Unreadable(f"it is a zip file with {len(folders)} data.pkl in it, where torch writes one")
        return folders[0]

    def _check_byte_order(self) -> None:
        info = self._members.get(f"{self._folder}byteorder")
        order = self._read(info) if info is not None and info.file_size < 16 else b"little"
        if order != b"little":
            raise Unreadable(f"its numbers are in byte order {order!r}, and only little-endian files are read")


def regular_file_size(path: Path) -> int:
    """
    Raises:
        Unreadable: it is a folder, a device or a pipe, or cannot be opened.
    """
    try:
        status = path.stat()
    except OSError as error:  # also a symbolic link that leads nowhere or in a circle
        raise Unreadable(f"it cannot be opened ({error.strerror or error})") from error
    if not stat.S_ISREG(status.st_mode):  # reading a device or a pipe might never end
        raise Unreadable("it is a folder" if stat.S_ISDIR(status.st_mode) else "it is not a regular file")
    return status.st_size


def _check_magic(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror or error})") from error
    if head[:4] == b"PK\x03\x04":
        return
    if not head:
        raise Unreadable("it is empty")
    if head[:1] == b"\x80" or head[257:262] == b"ustar":
        raise Unreadable("it has the format that torch wrote before version 1.6 (no zip file)", advice=OLD)
    if head[:15].lower().startswith((b"<!doctype", b"<html", b"version https:")):
        raise Unreadable("it is a web page or a pointer to a file, so a download went wrong")
    raise Unreadable(f"it does not begin as a zip file does, but with {head[:8]!r}")


def _check_directory(path: Path, size: int) -> None:
    """Look at the end of the file for how many members it claims, before anyone makes a list of them."""
    with path.open("rb") as file:
        file.seek(max(0, size - 22 - 65535))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise Unreadable("it ends before its zip directory: the file is incomplete")
    count, length = struct.unpack_from("<HI", tail, at + 10)
    at64 = tail.rfind(b"PK\x06\x06", 0, at)
    if at64 >= 0 and len(tail) - at64 >= 56:
        count, length = struct.unpack_from("<QQ", tail, at64 + 32)
    if count > MAX_MEMBERS or length > MAX_MEMBERS * 512:
        raise Unreadable(f"its zip directory lists {count} members in {length} bytes, and no model needs that many")
