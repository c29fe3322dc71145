"""The boxes of one picture, in every format people ask for."""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sightline.errors import ShapeError
from sightline.ops.boxes import xyxy_to_xywh

Array: TypeAlias = Tensor | npt.NDArray[Any]


class Boxes:
    """The boxes of one picture. Every attribute is a slice or a simple function of `data`.

    Args:
        boxes: (N, 6) x1 y1 x2 y2 confidence class, or (N, 7) with the track id before the confidence; one box may come
            as (6,) or (7,). Pixels of the original picture. A torch tensor on any device, or a NumPy array.
        orig_shape: (height, width) of the original picture.

    Raises:
        ShapeError: another number of columns (an AssertionError too, as scripts expect).
    """

    def __init__(self, boxes: Array, orig_shape: tuple[int, int]) -> None:
        if boxes.ndim == 1:
            boxes = boxes[None, :]
        if boxes.ndim != 2 or boxes.shape[-1] not in (6, 7):
            raise ShapeError(
                f"Boxes of shape {tuple(boxes.shape)}: expected (N, 6) x1 y1 x2 y2 confidence class, "
                "or (N, 7) with a track id before the confidence."
            )
        self.data = boxes
        self.orig_shape = (int(orig_shape[0]), int(orig_shape[1]))
        self.is_track = boxes.shape[-1] == 7

    @property
    def xyxy(self) -> Array:
        """(N, 4) corners, pixels."""
        return self.data[:, :4]

    @property
    def conf(self) -> Array:
        """(N,) scores in [0, 1]."""
        return self.data[:, -2]

    @property
    def cls(self) -> Array:
        """(N,) class numbers, as floats."""
        return self.data[:, -1]

    @property
    def id(self) -> Array | None:
        """(N,) track numbers, as floats; None without tracking."""
        return self.data[:, -3] if self.is_track else None

    @property
    def xywh(self) -> Array:
        """(N, 4) centre and size, pixels."""
        return cast(Array, xyxy_to_xywh(cast(Any, self.xyxy)))  # the function is typed per kind, not for either

    @property
    def xyxyn(self) -> Array:
        """(N, 4) corners, divided by the width and height of the picture."""
        return self._normalized(self.xyxy)

    @property
    def xywhn(self) -> Array:
        """(N, 4) centre and size, divided by the width and height of the picture."""
        return self._normalized(self.xywh)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    def _normalized(self, boxes: Array) -> Array:
        height, width = self.orig_shape
        size = [width, height, width, height]
        if isinstance(boxes, Tensor):
            return boxes / boxes.new_tensor(size)
        return cast("npt.NDArray[Any]", boxes / np.array(size, dtype=boxes.dtype))

    def __len__(self) -> int:
        return int(self.data.shape[0])

    def __getitem__(self, index: Any) -> Boxes:
        """The boxes of an index, a slice, a list or a mask; an index gives one box, still with N = 1."""
        return Boxes(self.data[index], self.orig_shape)

    def __repr__(self) -> str:
        return f"Boxes({len(self)} of {self.orig_shape[1]}x{self.orig_shape[0]} pixels, data={self.data!r})"

    def cpu(self) -> Boxes:
        """Tensors on the CPU; a NumPy array stays one."""
        return Boxes(self.data.cpu() if isinstance(self.data, Tensor) else self.data, self.orig_shape)

    def numpy(self) -> Boxes:
        return Boxes(self.data.cpu().numpy() if isinstance(self.data, Tensor) else self.data, self.orig_shape)

    def cuda(self) -> Boxes:
        return self.to("cuda")

    def to(self, *args: Any, **kwargs: Any) -> Boxes:
        """As `Tensor.to`; a NumPy array becomes a tensor first."""
        return Boxes(torch.as_tensor(self.data).to(*args, **kwargs), self.orig_shape)


def as_numpy(values: Array) -> npt.NDArray[Any]:
    """On the CPU, as NumPy, whatever it was."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values
