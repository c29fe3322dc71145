"""Our own checkpoint files: tensors and plain values in torch's zip format, written whole or not at all."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from sightline.artifacts.archive import Unreadable
from sightline.artifacts.foreign import ForeignFile
from sightline.errors import CheckpointError, MissingInputError
from sightline.files import atomic_write

FORMAT = "sightline"


def save_checkpoint(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write a checkpoint; a crash or a full disk on the way leaves the file that was there before.

    Args:
        state: text → tensors, numbers, text, None, and dicts, lists and tuples of these. Tensors are written without
            what they are a view of, and come back on the CPU.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
        TypeError: something else is in `state`; the message says where.
    """
    content = {"format": FORMAT, **_plain(state, "state", {})}
    with atomic_write(path) as file:
        watched = _WatchedFile(file)
        try:
            torch.save(content, watched)
        except RuntimeError:
            # torch turns a failed write into a message about positions in its own source; the reason is in the file.
            if watched.error is not None:
                raise watched.error from None
            raise


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


def _plain(value: Any, where: str, seen: dict[int, Tensor]) -> Any:
    """A copy of the containers with nothing but what `weights_only` loads; tensors that are one stay one."""
    if isinstance(value, Tensor):
        if id(value) not in seen:
            seen[id(value)] = _compact(value)
        return seen[id(value)]
    if isinstance(value, Mapping):
        return {
            _plain(key, f"{where} key", seen): _plain(item, f"{where}[{key!r}]", seen) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        items = [_plain(item, f"{where}[{index}]", seen) for index, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
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


def _compact(tensor: Tensor) -> Tensor:
    """On the CPU, without gradient; a view of a larger tensor is cut out, since torch saves whole storages."""
    tensor = tensor.detach().cpu()
    if tensor.untyped_storage().nbytes() != tensor.numel() * tensor.itemsize:
        tensor = tensor.clone()
    return tensor


def _short(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text.rstrip(".")[:300]
