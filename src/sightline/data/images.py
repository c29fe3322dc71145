"""Pixels: decode any image file to what the network is fed, bring it to the working size, remember it within a budget."""

from __future__ import annotations

import contextlib
import hashlib
import math
import mmap
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sightline.errors import DataError, OutputError
from sightline.files import atomic_write, cache_folder, free_space
from sightline.log import LOGGER

GIB = 1 << 30


class ImageError(DataError):
    """An image file that cannot be read; the message names it."""


# ------------------------------------------------------------------------------------------------- decode


def read_image(path: str | os.PathLike[str], channels: int = 3) -> np.ndarray:
    """Decode an image file, upright.

    Args:
        channels: 3 gives BGR (grey is repeated, alpha dropped), 1 gives grey; any other number takes the file as it is,
            where the pages of a TIFF of equal grey pages count as channels.

    Returns:
        (H, W, channels) uint8, contiguous, turned as its EXIF orientation says (not for other channel counts). Of 16-bit
        samples the high byte; of an animation or a file of several pages the first.

    Raises:
        ImageError: the file is missing, empty, damaged, of an unknown format, or has samples that are not 8 or 16 bit.
    """
    name = os.fspath(path)
    try:
        # Not cv2.imread: on Windows it cannot open names outside the system's code page.
        content = np.fromfile(name, dtype=np.uint8)
    except OSError as error:
        raise ImageError(f"Cannot read image {name}: {error.strerror or error}.") from error
    if not content.size:
        raise ImageError(f"Cannot read image {name}: the file is empty (0 bytes).")
    return decode_image(content, name, channels)


def decode_image(content: np.ndarray, name: str, channels: int = 3) -> np.ndarray:
    """As `read_image`, from the bytes of a file, (n,) uint8. `name` is for messages."""
    image = None
    if not _needs_pillow(content):
        image = _decode_opencv(content, channels)
    if image is None:
        image = _decode_pillow(content, name, channels)
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ImageError(f"Image {name} has {image.dtype} samples; convert it to 8 or 16 bits a channel.")
    image = image[:, :, None] if image.ndim == 2 else image
    if image.shape[2] != channels:
        raise ImageError(
            f"Image {name} has {image.shape[2]} channels, but the data set says channels={channels}. "
            "Correct `channels` in the data YAML, or the image."
        )
    return np.ascontiguousarray(image)


def _needs_pillow(content: np.ndarray) -> bool:
    """AVIF and HEIC: whether OpenCV reads them, and how it turns them, depends on its build."""
    head = content[:12].tobytes()
    return head[4:8] == b"ftyp" and head[8:11] in (b"avi", b"hei", b"hev", b"mif", b"msf")


def _decode_opencv(content: np.ndarray, channels: int) -> np.ndarray | None:
    # ANYDEPTH keeps 16-bit samples, which OpenCV would otherwise reduce differently for each format.
    modes = {3: cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, 1: cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH}
    try:
        if channels in modes:
            return cv2.imdecode(content, modes[channels])
        if bytes(content[:4]) in (b"II*\0", b"MM\0*"):
            _, pages = cv2.imdecodemulti(content, cv2.IMREAD_UNCHANGED)
            if len(pages) > 1 and all(page.ndim == 2 and page.shape == pages[0].shape for page in pages):
                return np.stack(pages, axis=2)
        return cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except cv2.error:  # an image larger than OpenCV's limit, or damage that it notices late
        return None


def _decode_pillow(content: np.ndarray, name: str, channels: int) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with Image.open(BytesIO(content.tobytes())) as image:
            upright = ImageOps.exif_transpose(image)
            if channels == 1:
                return np.asarray(upright.convert("L"))
            if channels == 3:
                return np.asarray(upright.convert("RGB"))[:, :, ::-1]
            return np.asarray(upright)
    except Exception as error:  # Pillow raises many kinds for damaged files
        reason = str(error).replace("<_io.BytesIO object", "content").partition(" at 0x")[0].strip()
        if not reason or "cannot identify" in reason:
            reason = "it is damaged or not an image format that OpenCV or Pillow can read here"
        raise ImageError(f"Cannot decode image {name}: {reason}.") from error


# ------------------------------------------------------------------------------------------------- first resize


def resized_shape(height: int, width: int, imgsz: int) -> tuple[int, int]:
    """(height, width) after the first resize: the long side becomes `imgsz`, the short side is rounded up."""
    ratio = imgsz / max(height, width)
    if ratio == 1:
        return height, width
    return min(math.ceil(height * ratio), imgsz), min(math.ceil(width * ratio), imgsz)


def resize_long_side(image: np.ndarray, imgsz: int) -> np.ndarray:
    """Scale an image (H, W, C), up or down, bilinear, until its long side is `imgsz` pixels."""
    return _resize(image, resized_shape(image.shape[0], image.shape[1], imgsz))


def _resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == shape:
        return image
    resized = cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return resized[:, :, None] if resized.ndim == 2 else resized  # OpenCV drops a single channel


# ------------------------------------------------------------------------------------------------- reader


class ImageReader:
    """Image `i` of a list at the working size, from a cache when there is one.

    Nothing is cached ahead: an image enters the cache when it is first read, so a run starts at once. Which images have a
    place is fixed at the start from their sizes: as many as the budget allows, spread over the list.

    Safe to use from threads. In worker processes: forked ones share the RAM cache in both directions; ones started
    afresh (spawn) get the reader pickled and share it only where the system has memory files (Linux), else they decode.

    Args:
        paths: image files.
        imgsz: long side in pixels after the first resize.
        shapes: (n, 2) upright height and width of each file, as the label index has them; read from the files when needed.
        cache: False, True or "ram", "disk". Disk: decoded and resized pixels in `folder`, one file an image, named by a
            hash of path, size, modification time, imgsz and channels, so a changed image is never mistaken.
        budget_bytes: upper bound of the cache; by default half of the free memory, or all but a tenth of the free disk.
        channels: as for `read_image`.
        stretch: to imgsz × imgsz instead of keeping the aspect ratio.
        folder: of the disk cache; default the user's cache folder.
    """

    def __init__(
        self,
        paths: Sequence[str],
        imgsz: int,
        *,
        shapes: np.ndarray | None = None,
        cache: bool | str = False,
        budget_bytes: int | None = None,
        channels: int = 3,
        stretch: bool = False,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        if cache not in (False, True, None, "ram", "disk"):
            raise ValueError(f"cache={cache!r}; it may be False, True, 'ram' or 'disk'")
        self.paths = paths
        self.imgsz = imgsz
        self.channels = channels
        self.stretch = stretch
        self._store: _RamStore | _DiskStore | None = None
        if cache and len(paths):
            plan = _plan(paths, shapes, lambda h, w: self._target(h, w), channels)
            if cache == "disk":
                self._store = _DiskStore(
                    Path(folder) if folder else cache_folder("images"), plan, budget_bytes, paths, self._identity
                )
            else:
                self._store = _RamStore(plan, budget_bytes)
            LOGGER.info(self._store.summary())

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def cached(self) -> int:
        """How many images have a place in the cache; 0 without one."""
        return self._store.places if self._store else 0

    def load(self, i: int) -> tuple[np.ndarray, tuple[int, int]]:
        """The pixels (h, w, C) uint8 with the long side `imgsz`, the caller's own copy, and the file's (height, width).

        Raises:
            ImageError: the file cannot be decoded.
        """
        if self._store is not None:
            found = self._store.get(i)
            if found is not None:
                return found
        image = read_image(self.paths[i], self.channels)
        original = image.shape[0], image.shape[1]
        resized = _resize(image, self._target(*original))
        if self._store is not None:
            self._store.put(i, resized, original)
        return resized, original

    def _target(self, height: int, width: int) -> tuple[int, int]:
        return (self.imgsz, self.imgsz) if self.stretch else resized_shape(height, width, self.imgsz)

    def _identity(self, i: int) -> str:
        """A name for the pixels of image `i` that changes when they may have changed."""
        path = os.path.abspath(self.paths[i])
        try:
            status = os.stat(path)
            facts = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            facts = "missing"
        key = f"{path}\0{facts} {self.imgsz} {self.channels} {self.stretch}"
        return hashlib.blake2b(os.fsencode(key), digest_size=16).hexdigest()


class _Plan:
    """Sizes and places: shapes (n, 2) at working size, original (n, 2), sizes (n,) bytes."""

    def __init__(self, shapes: np.ndarray, original: np.ndarray, channels: int) -> None:
        self.shapes, self.original, self.channels = shapes, original, channels
        self.sizes = shapes.prod(axis=1) * channels

    def choose(self, budget: int) -> np.ndarray:
        """(n,) bool: which images have a place. Spread over the list, because a sorted list is sorted by source too."""
        if self.sizes.sum() <= budget:
            return np.ones(len(self.sizes), bool)
        order = np.random.default_rng(0).permutation(len(self.sizes))
        chosen = np.zeros(len(self.sizes), bool)
        chosen[order[np.cumsum(self.sizes[order]) <= budget]] = True
        return chosen


def _plan(paths: Sequence[str], shapes: np.ndarray | None, target: Any, channels: int) -> _Plan:
    if shapes is None:
        from sightline.data.verify import inspect_image  # verify reads images, so it imports this file

        facts = [inspect_image(path) for path in paths]
        shapes = np.array([[fact.height, fact.width] for fact in facts])
    original = np.asarray(shapes, dtype=np.int64).reshape(-1, 2)
    unique, inverse = np.unique(original, axis=0, return_inverse=True)  # data sets have few sizes, and this is Python
    working = np.array([target(int(h), int(w)) for h, w in unique], dtype=np.int64)[inverse.ravel()]
    return _Plan(working, original, channels)


class _RamStore:
    """One anonymous block of memory shared with forked processes: a flag for each image, then the pixels.

    Memory is taken from the system when a page is first written. A writer sets the flag after the pixels; two writers of
    one image write the same bytes.
    """

    def __init__(self, plan: _Plan, budget: int | None) -> None:
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

    def get(self, i: int) -> tuple[np.ndarray, tuple[int, int]] | None:
        if not self.buffer[i]:
            return None
        height, width = self.plan.shapes[i]
        start = self.offsets[i]
        pixels = self.buffer[start : start + self.plan.sizes[i]].reshape(height, width, self.plan.channels).copy()
        return pixels, (int(self.plan.original[i, 0]), int(self.plan.original[i, 1]))

    def put(self, i: int, image: np.ndarray, original: tuple[int, int]) -> None:
        # A file replaced during the run may have another size than its place.
        if (
            not self.chosen[i]
            or image.shape[:2] != tuple(self.plan.shapes[i])
            or original != tuple(self.plan.original[i])
        ):
            return
        start = self.offsets[i]
        self.buffer[start : start + self.plan.sizes[i]] = image.reshape(-1)
        self.buffer[i] = 1

    def summary(self) -> str:
        return f"cache=ram: room for {self.places} of {len(self.chosen)} images ({self.total / GIB:.2f} GB), filled as they are read"

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
        if getattr(self, "_descriptor", None) is not None:
            with contextlib.suppress(Exception):  # the interpreter may be going down
                os.close(self._descriptor)
            self._descriptor = None


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


class _DiskStore:
    """Decoded pixels as one .npy file an image, written once, complete or not at all."""

    def __init__(self, folder: Path, plan: _Plan, budget: int | None, paths: Sequence[str], identity: Any) -> None:
        self.folder, self.plan = folder, plan
        names = [identity(i) for i in range(len(paths))]
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

    def get(self, i: int) -> tuple[np.ndarray, tuple[int, int]] | None:
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
        if (
            not self.chosen[i]
            or image.shape[:2] != tuple(self.plan.shapes[i])
            or original != tuple(self.plan.original[i])
        ):
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
