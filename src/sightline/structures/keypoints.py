"""The keypoints of one picture."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sightline.errors import ShapeError
from sightline.structures.boxes import Array


class Keypoints:
    """K points for each of N objects. Every attribute is a slice or a simple function of `data`.

    Args:
        keypoints: (N, K, 2) x, y, or (N, K, 3) with how sure it is that the point can be seen; one object may come as
            (K, 2) or (K, 3). Pixels of the original picture. A torch tensor on any device, or a NumPy array.
        orig_shape: (height, width) of the original picture.

    Raises:
        ShapeError: another shape.
    """

    def __init__(self, keypoints: Array, orig_shape: tuple[int, int]) -> None:
        if keypoints.ndim == 2:
            keypoints = keypoints[None]
        if keypoints.ndim != 3 or keypoints.shape[-1] not in (2, 3):
            raise ShapeError(
                f"Keypoints of shape {tuple(keypoints.shape)}: expected (N, K, 2) x y, or (N, K, 3) x y confidence."
            )
        self.data = keypoints
        self.orig_shape = (int(orig_shape[0]), int(orig_shape[1]))
        self.has_visible = keypoints.shape[-1] == 3

    @property
    def xy(self) -> Array:
        """(N, K, 2) pixels."""
        return self.data[..., :2]

    @property
    def xyn(self) -> Array:
        """(N, K, 2) divided by the width and height of the picture."""
        height, width = self.orig_shape
        if isinstance(self.data, Tensor):
            return self.data[..., :2] / self.data.new_tensor([width, height])
        return cast("npt.NDArray[Any]", self.data[..., :2] / np.array([width, height], dtype=self.data.dtype))

    @property
    def conf(self) -> Array | None:
        """(N, K) in [0, 1], how sure it is that each point can be seen; None for a model that does not say."""
        return self.data[..., 2] if self.has_visible else None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    def __len__(self) -> int:
        return int(self.data.shape[0])

    def __getitem__(self, index: Any) -> Keypoints:
        """Those of an index, a slice, a list or a mask; an index gives one object, still with N = 1."""
        return Keypoints(self.data[index], self.orig_shape)

    def __repr__(self) -> str:
        return f"Keypoints({self.shape} of {self.orig_shape[1]}x{self.orig_shape[0]} pixels, data={self.data!r})"

    def cpu(self) -> Keypoints:
        """Tensors on the CPU; a NumPy array stays one."""
        return Keypoints(self.data.cpu() if isinstance(self.data, Tensor) else self.data, self.orig_shape)

    def numpy(self) -> Keypoints:
        return Keypoints(self.data.cpu().numpy() if isinstance(self.data, Tensor) else self.data, self.orig_shape)

    def cuda(self) -> Keypoints:
        return self.to("cuda")

    def to(self, *args: Any, **kwargs: Any) -> Keypoints:
        """As `Tensor.to`; a NumPy array becomes a tensor first."""
        return Keypoints(torch.as_tensor(self.data).to(*args, **kwargs), self.orig_shape)
