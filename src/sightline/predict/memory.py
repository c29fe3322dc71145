"""Pictures that are in memory already: PIL images, NumPy arrays, torch tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.errors import SettingTypeError, SettingValueError
from sightline.log import LOGGER
from sightline.predict.frames import Frame, Source, grouped
from sightline.structures.pictures import Picture


class MemorySource(Source):
    """PIL images and arrays, in the order given.

    Args:
        name: what was asked for.
        images: PIL images (RGB assumed, EXIF orientation applied) and arrays (H, W, C) uint8 BGR, or (H, W) grey.
        batch: pictures at a time.
        channels: as the network wants them.
        paths: of those that come from files; the others, and all without it, are called "image0.jpg", …

    Raises:
        SettingTypeError, SettingValueError: one of them is not such a picture; the message says which.
    """

    def __init__(
        self, name: str, images: Sequence[Any], *, batch: int, channels: int, paths: Sequence[str | None] | None = None
    ) -> None:
        super().__init__(name)
        self._paths = paths
        self._images = [_picture(image, index, channels) for index, image in enumerate(images)]
        self._batch = batch

    def __len__(self) -> int:
        return len(self._images)

    def batches(self) -> Iterator[list[Frame]]:
        yield from grouped(map(self._frame, range(len(self))), self._batch)

    def _frame(self, index: int) -> Frame:
        path = (self._paths[index] if self._paths else None) or memory_name(index)
        return Frame(image=self._images[index], path=path, kind="image", title=f"image {index + 1}/{len(self)} {path}")


class TensorSource(Source):
    """A batch that enters the network as it is: no letterbox, no other size.

    Args:
        name: what was asked for.
        images: (B, C, H, W) or (C, H, W) RGB in [0, 1]. Larger values are divided by 255, and that is said.
        batch: pictures at a time.
        channels: as the network wants them.
        stride: H and W must be multiples of it.

    Raises:
        SettingValueError: another shape.
    """

    def __init__(self, name: str, images: Tensor, *, batch: int, channels: int, stride: int) -> None:
        super().__init__(name)
        if images.ndim == 3:
            images = images[None]
        if images.ndim != 4 or images.shape[1] != channels or not len(images):
            raise SettingValueError(
                f"source: a tensor of shape {tuple(images.shape)}; expected (B, {channels}, H, W) RGB in [0, 1]."
            )
        if images.shape[2] % stride or images.shape[3] % stride or not images[0].numel():
            raise SettingValueError(
                f"source: a tensor of {images.shape[2]}x{images.shape[3]} pixels; height and width must be multiples "
                f"of {stride}. Resize or pad it, or pass NumPy arrays, which are letterboxed."
            )
        # A copy: nothing below may write into the caller's tensor.
        values = images.detach().to(torch.float32, copy=True)
        if images.dtype == torch.uint8 or float(values.max()) > 1:
            LOGGER.warning("source: a tensor with values above 1, taken as 0–255 and divided by 255.")
            values /= 255
        self._images = values
        self._batch = batch

    def __len__(self) -> int:
        return len(self._images)

    def batches(self) -> Iterator[list[Frame]]:
        yield from grouped(map(self._frame, range(len(self))), self._batch)

    def _frame(self, index: int) -> Frame:
        ready, path = self._images[index], memory_name(index)
        shown = (ready * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy().transpose(1, 2, 0)
        image = np.ascontiguousarray(shown[..., ::-1] if shown.shape[2] == 3 else shown)
        title = f"image {index + 1}/{len(self)} {path}"
        return Frame(image=image, path=path, kind="image", title=title, ready=ready)


def memory_name(index: int) -> str:
    return f"image{index}.jpg"


def is_pil_image(value: object) -> bool:
    """Without importing Pillow for everybody who never had such an image."""
    return any(kind.__module__.startswith("PIL.") and kind.__name__ == "Image" for kind in type(value).__mro__)


def _picture(value: Any, index: int, channels: int) -> Picture:
    """(H, W, channels) uint8 BGR."""
    if is_pil_image(value):
        from PIL import ImageOps

        upright = ImageOps.exif_transpose(value)
        if channels == 1:
            return np.array(upright.convert("L"))[..., None]
        return np.ascontiguousarray(np.asarray(upright.convert("RGB"))[..., ::-1])
    if not isinstance(value, np.ndarray):
        raise SettingTypeError(
            f"source: item {index} is a {type(value).__name__}. "
            "Allowed in a list are paths, PIL images and NumPy arrays, or tensors of one shape."
        )
    array = value[..., None] if value.ndim == 2 else value
    if array.ndim != 3 or 0 in array.shape:
        raise SettingValueError(
            f"source: array {index} has shape {value.shape}; expected (H, W, {channels}) uint8 BGR. "
            "For several pictures pass a list of arrays."
        )
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    if array.dtype != np.uint8:
        raise SettingTypeError(
            f"source: array {index} holds {array.dtype}; expected uint8, 0–255. Convert it, for values in [0, 1] with "
            "(array * 255).astype(np.uint8)."
        )
    if channels == 3 and array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    if channels == 3 and array.shape[2] == 4:  # alpha
        array = array[..., :3]
    if array.shape[2] != channels:
        raise SettingValueError(
            f"source: array {index} has shape {value.shape}, but the network takes {channels} channels: "
            f"(H, W, {channels})."
        )
    return np.ascontiguousarray(array)
