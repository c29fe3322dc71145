"""The heads of pose estimation: boxes, class scores, and K keypoints for every cell of every level."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sightline.nn.conv import Conv
from sightline.nn.flow import RealNVP
from sightline.nn.heads.detect import Detect, box_branch, join_levels
from sightline.ops.keypoints import decode_keypoints


class Pose(Detect):
    """A detection head with a keypoint branch per level (YOLOv8, YOLO11).

    To what `Detect` gives come, for each branch pair, raw `kpts` (B, K·D, A), channel = keypoint · D + (x, y[,
    visibility]), and behind the scores of the decoded tensor K·D channels: x, y in pixels, visibility in [0, 1].
    """

    task = "pose"
    branches = ("cv2", "cv3", "cv4")
    factor, offset = 2.0, -0.5  # see `decode_keypoints`

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        kpt_shape: Sequence[int] = (17, 3),
        nc: int = 80,
        reg_max: int = 16,
        end2end: bool = False,
        old_style: bool = False,
    ) -> None:
        """
        Args:
            kpt_shape: (K, D): keypoints of an object, and 2 (x, y) or 3 (x, y, visibility) numbers for each.
            in_channels, nc, reg_max, end2end, old_style: as `Detect`.
        """
        super().__init__(in_channels, nc=nc, reg_max=reg_max, end2end=end2end, old_style=old_style)
        self.kpt_shape = (int(kpt_shape[0]), int(kpt_shape[1]))
        self.nk = self.kpt_shape[0] * self.kpt_shape[1]
        self.make_keypoint_branches(end2end)

    def make_keypoint_branches(self, end2end: bool) -> None:
        hidden = max(self.in_channels[0] // 4, self.nk)
        self.cv4 = nn.ModuleList(box_branch(width, hidden, self.nk) for width in self.in_channels)
        if end2end:
            self.one2one_cv4 = copy.deepcopy(self.cv4)

    def run_branches(self, maps: list[Tensor], prefix: str) -> dict[str, Any]:
        return {**super().run_branches(maps, prefix), **self.run_keypoints(maps, prefix)}

    def run_keypoints(self, maps: list[Tensor], prefix: str) -> dict[str, Tensor]:
        """What the keypoint branches of one pair add to the raw predictions."""
        branches = getattr(self, f"{prefix}cv4")
        return {"kpts": join_levels([self.run_branch(branch, x) for branch, x in zip(branches, maps, strict=True)])}

    def decode_branch(self, raw: dict[str, Any], *, corners: bool) -> Tensor:
        """(B, 4 + nc + K·D, A): as in `Detect`, then the keypoints."""
        found = super().decode_branch(raw, corners=corners)
        points, strides = self.anchors_for(raw["feats"], found.dtype)
        keypoints = raw["kpts"].to(found.dtype).transpose(1, 2).unflatten(2, self.kpt_shape)  # (B, A, K, D)
        xy = decode_keypoints(keypoints[..., :2], points, factor=self.factor, offset=self.offset) * strides[:, None]
        keypoints = torch.cat([xy, keypoints[..., 2:].sigmoid()], -1)
        return torch.cat([found, keypoints.flatten(2).transpose(1, 2)], 1)


class Pose26(Pose):
    """The keypoint head of YOLO26, which in training also says how sure it is of each coordinate.

    The branches end in features; from them come the keypoints and, in training, raw `kpts_sigma` (B, 2K, A), channel =
    keypoint · 2 + (x, y): the logit of the spread in cells. `flow_model` learns how errors are spread; both pairs share
    it. Neither is there any more after `fold`.

    Source: Li et al., Human Pose Regression with Residual Log-likelihood Estimation, arXiv:2107.11291.
    """

    branches = ("cv2", "cv3", "cv4", "cv4_kpts", "cv4_sigma")
    factor, offset = 1.0, 0.0

    def make_keypoint_branches(self, end2end: bool) -> None:
        points, numbers = self.kpt_shape
        hidden = max(self.in_channels[0] // 4, points * (numbers + 2))
        self.cv4 = nn.ModuleList(
            nn.Sequential(Conv(width, hidden, 3), Conv(hidden, hidden, 3)) for width in self.in_channels
        )
        if end2end:
            self.one2one_cv4 = copy.deepcopy(self.cv4)
        self.flow_model = RealNVP()
        self.cv4_kpts = nn.ModuleList(nn.Conv2d(hidden, self.nk, 1) for _ in self.in_channels)
        self.cv4_sigma = nn.ModuleList(nn.Conv2d(hidden, 2 * points, 1) for _ in self.in_channels)
        if end2end:
            self.one2one_cv4_kpts = copy.deepcopy(self.cv4_kpts)
            self.one2one_cv4_sigma = copy.deepcopy(self.cv4_sigma)

    def run_keypoints(self, maps: list[Tensor], prefix: str) -> dict[str, Tensor]:
        features = [branch(x) for branch, x in zip(getattr(self, f"{prefix}cv4"), maps, strict=True)]
        found = {"kpts": self._last(f"{prefix}cv4_kpts", features)}
        if self.training:
            found["kpts_sigma"] = self._last(f"{prefix}cv4_sigma", features)
        return found

    def _last(self, name: str, features: list[Tensor]) -> Tensor:
        layers = getattr(self, name)
        return join_levels([self.run_last(layer, x) for layer, x in zip(layers, features, strict=True)])

    @property
    def foldable(self) -> bool:
        return super().foldable or hasattr(self, "flow_model")

    def fold(self) -> None:
        """Drop what only training reads, too."""
        super().fold()
        for name in ("flow_model", "cv4_sigma", "one2one_cv4_sigma"):
            if hasattr(self, name):
                delattr(self, name)
