"""Writing files so that a crash leaves either the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from sightline.errors import OutputError


@contextlib.contextmanager
def atomic_write(
    path: str | os.PathLike[str],
    mode: str = "wb",
    *,
    durable: bool = True,
    check: Callable[[Path], None] | None = None,
    previous: Path | None = None,
    **open_args: Any,
) -> Iterator[IO[Any]]:
    """Open a temporary neighbour of `path`; on success flush it to disk and rename it into place.

    Args:
        path: the file to make or replace. Its folder is made when missing.
        mode: "wb" or "w".
        durable: wait until the bytes are on the disk, so that a power cut cannot lose them; False for caches.
        check: called with the temporary file once it is on the disk; an OSError from it counts as a failed write.
        previous: the name under which what `path` was before is kept. At no moment is there none of the two.

    Raises:
        OutputError: the folder cannot be written or the disk is full; `path` is then as it was before.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        with os.fdopen(descriptor, mode, **open_args) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        # mkstemp makes private files; results should be as readable as any other file of this user.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        if check is not None:
            check(Path(temporary))
        if previous is not None:
            _keep(target, previous)
        os.replace(temporary, target)
        temporary = None
        if durable:
            _sync_folder(target.parent)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"Cannot write {target}: {error.strerror or error}. "
            "Choose a folder you may write to, with free space (setting `project`)."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def previous_of(path: str | os.PathLike[str]) -> Path:
    """Where what a file was before is kept: `last.pt` → `last.prev.pt`."""
    return Path(path).with_suffix(f".prev{Path(path).suffix}")


def aside_of(path: str | os.PathLike[str]) -> Path:
    """Where a damaged file goes, lest it becomes the previous one: `last.pt` → `last.aside.pt`."""
    return Path(path).with_suffix(f".aside{Path(path).suffix}")


def _keep(target: Path, previous: Path) -> None:
    """Give a file a second name, so that replacing the first does not lose it."""
    if not target.exists():
        return
    spare = previous.with_name(f".{previous.name}.part")
    spare.unlink(missing_ok=True)
    try:
        os.link(target, spare)
    except OSError:  # a file system without hard links; for a moment only the previous one exists
        os.replace(target, previous)
    else:
        os.replace(spare, previous)


def _sync_folder(folder: Path) -> None:
    """After a power cut the new name must be there, too. Not every system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_unfinished(path: str | os.PathLike[str]) -> None:
    """Remove what writers of `path` left behind that were killed on the way. Nobody may be writing it now."""
    target = Path(path)
    for file in target.parent.glob(f".{target.name}.*part"):
        with contextlib.suppress(OSError):
            file.unlink()


def free_space(path: str | os.PathLike[str]) -> int:
    """Bytes free on the disk of `path`, or of its nearest existing parent."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    return usage.free if usage.total else sys.maxsize  # a file system without a size: tmpfs size=0, /proc


def cache_folder(name: str = "") -> Path:
    """Where what can be made or fetched again is kept: `SIGHTLINE_CACHE`, else the platform's cache folder.

    Args:
        name: a part of it: "weights", "datasets", "labels", "images". The folder is not made here. `SIGHTLINE_DATASETS`
            moves the data sets alone, because they are large.
    """
    if name == "datasets" and os.environ.get("SIGHTLINE_DATASETS"):
        return Path(os.environ["SIGHTLINE_DATASETS"]).expanduser().absolute()
    chosen = os.environ.get("SIGHTLINE_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute() / name
    try:
        home = Path.home()
    except RuntimeError:  # no HOME and no entry in the user database, as in some containers
        return Path(tempfile.gettempdir()) / f"sightline-{os.getuid() if hasattr(os, 'getuid') else 'cache'}" / name
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "sightline" / name


@contextlib.contextmanager
def lock(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let one process at a time through; the others wait. `path` is a small file that stays behind.

    Raises:
        OutputError: the file cannot be made.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = open(target, "a+b")  # noqa: SIM115 - closed below, after the lock
    except OSError as error:
        raise OutputError(
            f"Cannot write {target}: {error.strerror or error}. Choose a folder you may write to."
        ) from error
    with file:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            while True:
                with contextlib.suppress(OSError):  # LK_LOCK gives up after ten seconds
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                    break
            try:
                yield
            finally:
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
