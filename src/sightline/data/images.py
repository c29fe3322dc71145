"""Pixels: decode any image file, bring it to the working size, remember it within a budget."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np

from sightline.data.image_cache import CachePlan, DiskStore, RamStore
from sightline.errors import DataError
from sightline.files import cache_folder
from sightline.log import LOGGER


class ImageError(DataError):
    """An image file that cannot be read; the message names it."""


# ------------------------------------------------------------------------------------------------- decode


def read_image(path: str | os.PathLike[str], channels: int = 3) -> np.ndarray:
    """Decode an image file, upright.

    Args:
        channels: 3 gives BGR (grey is repeated, alpha dropped), 1 gives grey; any other number takes the file as it is,
            where the pages of a TIFF of equal grey pages count as channels.

    Returns:
        (H, W, channels) uint8, contiguous, turned as its EXIF orientation says (not for other channel counts). Of
        16-bit samples the high byte; of an animation or a file of several pages the first.

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

    heic = _needs_pillow(content) and content[8:11].tobytes() != b"avi"
    if heic:
        _learn_heic()
    try:
        with Image.open(BytesIO(content.tobytes())) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode[0] in "IF":  # more than 8 bits a sample: Pillow's conversions cut them off at 255
                samples = np.asarray(upright)  # (H, W); `decode_image` looks at their type
                grey = samples.astype(samples.dtype.newbyteorder("="))[:, :, None]
                return np.repeat(grey, 3, axis=2) if channels == 3 else grey
            if channels == 1:
                return np.asarray(upright.convert("L"))
            if channels == 3:
                return np.asarray(upright.convert("RGB"))[:, :, ::-1]
            return np.asarray(upright)
    except Exception as error:  # Pillow raises many kinds for damaged files
        reason = str(error).replace("<_io.BytesIO object", "content").partition(" at 0x")[0].strip()
        if not reason or "cannot identify" in reason:
            reason = "it is damaged or not an image format that OpenCV or Pillow can read here"
            if heic:
                reason += "; HEIC needs the package pillow-heif, or convert the image to JPEG or PNG"
        raise ImageError(f"Cannot decode image {name}: {reason}.") from error


def _learn_heic() -> None:
    """Pillow reads HEIC only with the help of another package, which is used when somebody installed it."""
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()


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

    Nothing is cached ahead: an image enters the cache when it is first read, so a run starts at once. Which images have
    a place is fixed at the start from their sizes: as many as the budget allows, spread over the list.

    Safe to use from threads. In worker processes: forked ones share the RAM cache in both directions; ones started
    afresh (spawn) get the reader pickled and share it only where the system has memory files (Linux), else they decode.

    Args:
        paths: image files.
        imgsz: long side in pixels after the first resize.
        shapes: (n, 2) upright height and width of each file, as the label index has them; needed for a cache.
        cache: False, True or "ram", "disk". Disk: decoded and resized pixels in `folder`, one file an image, named by a
            hash of path, size, modification time, imgsz and channels, so a changed image is never mistaken.
        budget_bytes: upper bound of the cache; by default half of the free memory, or all but a tenth of the free disk.
        channels: as for `read_image`.
        stretch: to imgsz × imgsz instead of keeping the aspect ratio.
        folder: of the disk cache; default the user's cache folder.
        quiet: do not say how much fits.
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
        quiet: bool = False,
    ) -> None:
        if cache not in (False, True, None, "ram", "disk"):
            raise ValueError(f"cache={cache!r}; it may be False, True, 'ram' or 'disk'")
        self.paths = paths
        self.imgsz = imgsz
        self.channels = channels
        self.stretch = stretch
        self._store: RamStore | DiskStore | None = None
        if cache and len(paths):
            if shapes is None:
                raise ValueError("a cache needs `shapes`, to know what fits into its budget")
            plan = CachePlan(*self._working_shapes(np.asarray(shapes, dtype=np.int64).reshape(-1, 2)), channels)
            if cache == "disk":
                place = Path(folder) if folder else cache_folder("images")
                self._store = DiskStore(place, plan, budget_bytes, [self._identity(i) for i in range(len(paths))])
            else:
                self._store = RamStore(plan, budget_bytes)
            if not quiet:
                LOGGER.info(self._store.summary())

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def cached(self) -> int:
        """How many images have a place in the cache; 0 without one."""
        return self._store.places if self._store else 0

    def load(self, i: int, *, shared: bool = False) -> tuple[np.ndarray, tuple[int, int]]:
        """The pixels (h, w, C) uint8 with the long side `imgsz`, and the file's (height, width).

        Args:
            shared: the caller only reads, so the pixels may be the cache's own (then numpy refuses to write into them).
                Otherwise they are the caller's.

        Raises:
            ImageError: the file cannot be decoded.
        """
        if self._store is not None:
            found = self._store.get(i)
            if found is not None:
                image, original = found
                return image if shared or image.flags.writeable else image.copy(), original
        image = read_image(self.paths[i], self.channels)
        original = image.shape[0], image.shape[1]
        resized = _resize(image, self._target(*original))
        if self._store is not None:
            self._store.put(i, resized, original)
        return resized, original

    def _target(self, height: int, width: int) -> tuple[int, int]:
        return (self.imgsz, self.imgsz) if self.stretch else resized_shape(height, width, self.imgsz)

    def _working_shapes(self, original: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, 2) at working size, and the (n, 2) they come from."""
        unique, inverse = np.unique(original, axis=0, return_inverse=True)  # data sets have few different sizes
        targets = np.array([self._target(int(height), int(width)) for height, width in unique], dtype=np.int64)
        return targets[inverse.ravel()], original

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
