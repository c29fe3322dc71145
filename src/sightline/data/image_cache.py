"""Where an `ImageReader` keeps decoded pixels: one shared block of memory, or files; both bounded in bytes."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sightline.errors import OutputError
from sightline.files import atomic_write, free_space
from sightline.log import LOGGER

GIB = 1 << 30
Found = tuple[np.ndarray, tuple[int, int]]  # pixels (h, w, C) and the (height, width) of the file they come from


class CachePlan:
    """What every image needs: shapes (n, 2) and sizes (n,) bytes at working size, original (n, 2) of its file."""

    def __init__(self, shapes: np.ndarray, original: np.ndarray, channels: int) -> None:
        self.shapes, self.original, self.channels = shapes, original, channels
        self.sizes = shapes.prod(axis=1) * channels

    def fits(self, i: int, image: np.ndarray, original: tuple[int, int]) -> bool:
        """Whether these are the sizes planned for image `i`; a file replaced during the run may have others."""
        return image.shape[:2] == tuple(self.shapes[i]) and original == tuple(self.original[i])

    def choose(self, budget: int) -> np.ndarray:
        """(n,) bool: which images have a place. Spread over the list, because a sorted list is sorted by source too."""
        if self.sizes.sum() <= budget:
            return np.ones(len(self.sizes), bool)
        order = np.random.default_rng(0).permutation(len(self.sizes))
        chosen = np.zeros(len(self.sizes), bool)
        chosen[order[np.cumsum(self.sizes[order]) <= budget]] = True
        return chosen


class RamStore:
    """One anonymous block of memory shared with forked processes: a flag for each image, then the pixels.

    Memory is taken from the system when a page is first written. A writer sets the flag after the pixels; two writers
    of one image write the same bytes.
    """

    def __init__(self, plan: CachePlan, budget: int | None) -> None:
        budget = budget if budget is not None else available_memory() // 2
        self.plan = plan
        self.chosen = plan.choose(budget)
        sizes = np.where(self.chosen, plan.sizes, 0)
        self.offsets = len(sizes) + np.cumsum(sizes) - sizes  # (n,)
        self.total = int(len(sizes) + sizes.sum())
        self._attach(_memory_file(self.total))

    def _attach(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        block = mmap.mmap(-1, self.total) if descriptor is None else mmap.mmap(descriptor, self.total)
        self.buffer = np.frombuffer(block, np.uint8)

    @property
    def places(self) -> int:
        return int(self.chosen.sum())

    def get(self, i: int) -> Found | None:
        if not self.buffer[i]:
            return None
        height, width = self.plan.shapes[i]
        start = self.offsets[i]
        pixels = self.buffer[start : start + self.plan.sizes[i]].reshape(height, width, self.plan.channels)
        pixels.flags.writeable = False  # this view only; writing into the cache goes through `put`
        return pixels, (int(self.plan.original[i, 0]), int(self.plan.original[i, 1]))

    def put(self, i: int, image: np.ndarray, original: tuple[int, int]) -> None:
        if not (self.chosen[i] and self.plan.fits(i, image, original)):
            return
        start = self.offsets[i]
        self.buffer[start : start + self.plan.sizes[i]] = image.reshape(-1)
        self.buffer[i] = 1

    def summary(self) -> str:
        size = self.total / GIB
        return (
            f"cache=ram: room for {self.places} of {len(self.chosen)} images ({size:.2f} GB), filled as they are read"
        )

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["buffer"]
        state["_descriptor"] = _send_descriptor(self._descriptor)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        descriptor = state.pop("_descriptor")
        self.__dict__.update(state)
        if descriptor is not None:
            self._attach(descriptor.detach())
        else:  # nothing to share: this process decodes, and keeps nothing
            self._descriptor = None
            self.chosen = np.zeros_like(self.chosen)
            self.buffer = np.zeros(len(self.chosen), np.uint8)

    def __del__(self) -> None:
        descriptor, self._descriptor = getattr(self, "_descriptor", None), None
        if descriptor is not None:
            with contextlib.suppress(Exception):  # the interpreter may be going down
                os.close(descriptor)


def _memory_file(size: int) -> int | None:
    """An unnamed file in memory that can be handed to processes started afresh; None where the system has none.

    Unlike /dev/shm it has no limit of its own, which in containers is often 64 MB.
    """
    if not hasattr(os, "memfd_create"):
        return None
    try:
        descriptor = os.memfd_create("sightline-images")
        os.ftruncate(descriptor, size)
    except OSError:
        return None
    return descriptor


def _send_descriptor(descriptor: int | None) -> Any:
    """What pickles as this open file, while a process is being started; None at any other time."""
    from multiprocessing import context, reduction

    if descriptor is None or context.get_spawning_popen() is None:
        return None
    return reduction.DupFd(descriptor)


class DiskStore:
    """Decoded pixels as one .npy file an image, written once, complete or not at all."""

    def __init__(self, folder: Path, plan: CachePlan, budget: int | None, names: Sequence[str]) -> None:
        """names: (n,) one for each image, which changes when its pixels may have changed."""
        self.folder, self.plan = folder, plan
        used = {entry.name: entry.stat() for entry in _files(folder)}
        if budget is None:
            budget = int(free_space(folder) * 0.9) + sum(status.st_size for status in used.values())
        self.chosen = plan.choose(budget)
        self.files = [str(folder / name[:2] / f"{name}.npy") for name in names]
        self._prune(used, budget)

    def _prune(self, used: dict[str, os.stat_result], budget: int) -> None:
        """Make room: what other runs left goes, the oldest first. A run that misses its files decodes them again."""
        ours = {os.path.basename(self.files[i]) for i in np.flatnonzero(self.chosen)}
        room = budget - int(self.plan.sizes[self.chosen].sum())
        others = sorted((item for item in used.items() if item[0] not in ours), key=lambda item: -item[1].st_mtime)
        kept = 0
        for name, status in others:
            kept += status.st_size
            if kept > room:
                (self.folder / name[:2] / name).unlink(missing_ok=True)

    @property
    def places(self) -> int:
        return int(self.chosen.sum())

    def get(self, i: int) -> Found | None:
        if not self.chosen[i]:
            return None
        try:
            pixels = np.load(self.files[i], allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        if pixels.dtype != np.uint8 or pixels.shape != (*self.plan.shapes[i], self.plan.channels):
            return None
        return pixels, (int(self.plan.original[i, 0]), int(self.plan.original[i, 1]))

    def put(self, i: int, image: np.ndarray, original: tuple[int, int]) -> None:
        if not (self.chosen[i] and self.plan.fits(i, image, original)):
            return
        try:
            with atomic_write(self.files[i], durable=False) as file:
                np.save(file, image, allow_pickle=False)
        except OutputError as error:
            LOGGER.warning(f"cache=disk is off for the rest of this run: {error}")
            self.chosen = np.zeros_like(self.chosen)

    def summary(self) -> str:
        size = self.plan.sizes[self.chosen].sum() / GIB
        return f"cache=disk: room for {self.places} of {len(self.chosen)} images ({size:.2f} GB) in {self.folder}"


def _files(folder: Path) -> list[os.DirEntry[str]]:
    if not folder.is_dir():
        return []
    found: list[os.DirEntry[str]] = []
    for place in os.scandir(folder):
        if place.is_dir():
            found += [entry for entry in os.scandir(place.path) if entry.name.endswith(".npy")]
    return found


def available_memory() -> int:
    """Bytes this process may still take: of the machine, and of the container it runs in."""
    import psutil

    available = int(psutil.virtual_memory().available)
    try:  # control groups version 2
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            available = min(available, int(limit) - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return max(available, 0)
