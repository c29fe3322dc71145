"""Our own checkpoint files: tensors and plain values in torch's zip format, written whole or not at all."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from sightline.artifacts.archive import TorchArchive, Unreadable
from sightline.artifacts.foreign import ForeignFile
from sightline.errors import CheckpointError, MissingInputError, OutputError
from sightline.files import atomic_write, free_space, previous_of
from sightline.log import LOGGER

Content = TypeVar("Content")
FORMAT = "sightline"
OVERHEAD = 2**20  # bytes beside those of the tensors, generously: the description and the zip directory


def save_checkpoint(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write a checkpoint; a crash or a full disk on the way leaves the file that was there before.

    Args:
        state: text → tensors, numbers, text, None, and dicts, lists and tuples of these. Tensors are written without
            what they are a view of, and come back on the CPU.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
        TypeError: something else is in `state`; the message says where.
    """
    write_snapshot(path, {"format": FORMAT, **_plain(state, "state", {}, copied=False)})


def snapshot(state: Mapping[str, Any]) -> dict[str, Any]:
    """What `save_checkpoint` would write, in memory of its own: training may go on while another thread writes it.

    Tensors that share memory are copied, and later written, once.

    Raises:
        TypeError: something in `state` cannot be written; the message says where.
    """
    return {"format": FORMAT, **_plain(state, "state", {}, copied=True)}


def size_of(content: Any) -> int:
    """Bytes of the tensors in a snapshot, those that share memory counted once."""
    storages: dict[int, int] = {}

    def walk(value: Any) -> None:
        if isinstance(value, Tensor):
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        elif isinstance(value, Mapping):
            for item in value.values():
                walk(item)
        elif isinstance(value, list | tuple):
            for item in value:
                walk(item)

    walk(content)
    return sum(storages.values())


def write_snapshot(
    path: str | os.PathLike[str], content: Mapping[str, Any], *, check: bool = False, previous: Path | None = None
) -> None:
    """Write what `snapshot` made.

    Args:
        check: read the file again and compare its checksums before it takes its name.
        previous: where what `path` was before is kept.

    Raises:
        OutputError: the folder cannot be written, the disk is full or (known beforehand) has no room, or what was
            written is not what can be read.
    """
    needed, free = size_of(content) + OVERHEAD, free_space(path)
    if needed > free:
        raise OutputError(
            f"Cannot write {os.fspath(path)}: it takes {_megabytes(needed)}, and {_megabytes(free)} are free."
        )
    with atomic_write(path, check=_check_sums if check else None, previous=previous) as file:
        watched = _WatchedFile(file)
        try:
            torch.save(content, watched)
        except RuntimeError:
            # torch turns a failed write into a message about positions in its own source; the reason is in the file.
            if watched.error is not None:
                raise watched.error from None
            raise


def _check_sums(path: Path) -> None:
    """
    Raises:
        OSError: the file does not hold what was written.
    """
    try:
        with TorchArchive(path) as archive:
            archive.verify()
    except Unreadable as error:
        raise OSError(f"what was written cannot be read again ({error}); the disk may be failing") from None


def load_latest(
    path: str | os.PathLike[str],
    read: Callable[[Path], Content],
    *,
    tell: Callable[[str], None] = LOGGER.warning,
) -> tuple[Content, Path]:
    """The checkpoint, or the one before it where it is damaged or gone; and which file that was.

    Args:
        read: how a file is read, such as `load_checkpoint`.
        tell: what becomes of the message about a file that cannot be used.

    Raises:
        MissingInputError, CheckpointError: neither can be used; the error is that of the first.
    """
    try:
        return read(Path(path)), Path(path)
    except (MissingInputError, CheckpointError) as error:
        before = previous_of(path)
        if not before.exists():
            raise
        try:
            loaded = read(before)
        except CheckpointError:
            raise error from None
        tell(f"{str(error).splitlines()[0]} The one saved before it is taken: {before}.")
        return loaded, before


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote. Nothing in the file is run, whoever made it.

    Raises:
        MissingInputError: there is no such file.
        CheckpointError: it is damaged, or no checkpoint of this library.
    """
    if not os.path.lexists(path):
        raise MissingInputError(f"{os.fspath(path)} does not exist. Runs keep theirs in runs/<task>/<name>/weights.")
    try:
        with ForeignFile(Path(path)) as file:  # sizes and instructions are checked before torch gets to see it
            ours = isinstance(file.content, dict) and file.content.get("format") == FORMAT
            file.verify()  # torch ignores the checksums, and a run should not go on from a bad disk's numbers
        if not ours:
            raise Unreadable(
                "it is no checkpoint of a sightline run", advice="To start from its weights, use model=<file>."
            )
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (Unreadable, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, OSError) as error:
        advice = getattr(error, "advice", "Use another checkpoint of the run (last.pt, best.pt).")
        raise CheckpointError(
            f"{os.fspath(path)} cannot be loaded as a checkpoint: {_short(error)}. {advice}"
        ) from None
    return loaded


class _WatchedFile:
    """Remembers why a write failed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


Key = tuple[Any, ...]


def _plain(value: Any, where: str, seen: dict[Key, Tensor], *, copied: bool) -> Any:
    """A copy of the containers with nothing but what `weights_only` loads; tensors that are one stay one.

    Args:
        seen: what has been met, by the memory it lies in: `state_dict()` makes new objects for the same weights.
        copied: tensors, too, get memory of their own.
    """
    if isinstance(value, Tensor):
        place = (str(value.device), value.dtype, value.data_ptr(), tuple(value.shape), value.stride())
        key: Key = place if value.numel() else (id(value),)
        if key not in seen:
            seen[key] = _compact(value, copied=copied)
        return seen[key]
    if isinstance(value, Mapping):
        return {
            _plain(key, f"{where} key", seen, copied=copied): _plain(item, f"{where}[{key!r}]", seen, copied=copied)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        items = [_plain(item, f"{where}[{index}]", seen, copied=copied) for index, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    for kind in (bool, int, float, str):  # subclasses (enums, named strings) are written as what they are at heart
        if isinstance(value, kind):
            return kind(value)
    if value is None or isinstance(value, bytes):
        return value
    raise TypeError(f"{where} is a {type(value).__name__}: a checkpoint holds tensors and plain values only.")


def _compact(tensor: Tensor, *, copied: bool) -> Tensor:
    """On the CPU, without gradient; a view of a larger tensor is cut out, since torch saves whole storages."""
    on_cpu = tensor.device.type == "cpu"
    tensor = tensor.detach().cpu()
    if (copied and on_cpu) or tensor.untyped_storage().nbytes() != tensor.numel() * tensor.itemsize:
        tensor = tensor.clone()
    return tensor


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.1f} MB"


def _short(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text.rstrip(".")[:300]
