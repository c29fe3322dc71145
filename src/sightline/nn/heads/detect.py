"""The detection head: boxes and class scores for every cell of every level."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sightline.nn import group_norm
from sightline.nn.conv import Conv, DWConv
from sightline.ops.anchors import decode_distances, make_anchors
from sightline.ops.boxes import xyxy_to_xywh
from sightline.ops.nms import top_k_end_to_end

BOX_BIAS = 2.0  # first boxes reach two cells to each side, so that they overlap something
OBJECTS_AT_640 = 5.0  # objects expected on a 640-pixel image before training: sets the first class scores


class DFL(nn.Module):
    """The mean of a distribution over the bins 0 … R − 1.

    Shape: (B, A, 4, R) logits → (B, A, 4). The weight never trains; it is a parameter because checkpoints hold it.

    Source: Li et al., Generalized Focal Loss, arXiv:2006.04388, section 3.2.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bins, 1, 1, bias=False)
        self.set_bins()

    def set_bins(self) -> None:
        """The numbers 0 … bins − 1, which never train."""
        self.conv.requires_grad_(False)
        self.conv.weight.data.copy_(torch.arange(self.conv.in_channels).view(1, -1, 1, 1))

    def forward(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1) @ self.conv.weight.view(-1).to(logits.dtype)


class Detect(nn.Module):
    """Anchor-free head with a box and a class branch per level, and, if asked for, a second pair trained one-to-one.

    In training it gives raw predictions; in eval (decoded, raw). Raw predictions of a branch pair:

    | key | shape | meaning |
    |---|---|---|
    | `boxes` | (B, 4R, A) | left, top, right, bottom in cells; R bins a side, side by side |
    | `scores` | (B, nc, A) | logits |
    | `feats` | list of (B, C_i, H_i, W_i) | the maps that came in |

    A = Σ H_i · W_i, level by level, row by row. With one pair of branches that dict is returned; with two it is
    `{"one2many": …, "one2one": …}`. The one-to-one branches see detached maps while training: they learn from the
    features without disturbing them.

    Decoded is (B, 4 + nc, A): xywh in pixels and scores, for suppression. With `end2end` switched on (off after
    building) it is (B, K, 6): xyxy, score, class of the best `max_det` of the one-to-one branch, best first.

    Source: Tian et al., FCOS, arXiv:1904.01355; Wang et al., YOLOv10 (dual assignment), arXiv:2405.14458.
    """

    task = "detect"
    branches: tuple[str, ...] = ("cv2", "cv3")  # children of the first pair; those of the second are `one2one_…`

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        nc: int = 80,
        reg_max: int = 16,
        end2end: bool = False,
        old_style: bool = False,
    ) -> None:
        """
        Args:
            in_channels: width of each level.
            nc: number of classes.
            reg_max: bins R of a distance; 1 predicts it directly.
            end2end: add the one-to-one branches.
            old_style: class branches of full instead of depthwise convolutions (YOLOv8).
        """
        super().__init__()
        self.nc = nc
        self.nl = len(in_channels)
        self.reg_max = reg_max
        self.no = nc + 4 * reg_max  # outputs per cell
        self.in_channels = tuple(in_channels)
        self.old_style = old_style
        self.stride = torch.zeros(self.nl)  # pixels per cell of each level; set when the network is built
        self.end2end = False  # the switch; whether the branches exist is `has_one2one`
        self.max_det = 300
        self.agnostic_nms = False
        self._anchors: tuple[Any, Tensor, Tensor] | None = None  # of the last shape decoded

        box_width = max(16, in_channels[0] // 4, 4 * reg_max)
        self.cv2 = nn.ModuleList(box_branch(width, box_width, 4 * reg_max) for width in in_channels)
        self.cv3 = self.make_class_branches(max(in_channels[0], min(nc, 100)))
        self.dfl = DFL(reg_max) if reg_max > 1 else nn.Identity()
        if end2end:
            self.one2one_cv2 = copy.deepcopy(self.cv2)
            self.one2one_cv3 = copy.deepcopy(self.cv3)

    @property
    def has_one2one(self) -> bool:
        return hasattr(self, "one2one_cv3")

    @property
    def has_one2many(self) -> bool:
        return hasattr(self, "cv3")

    def forward(self, maps: Sequence[Tensor]) -> Any:
        maps = list(maps)
        raw = self.predict_raw(maps)
        return raw if self.training else (self.decode(raw), raw)

    def predict_raw(self, maps: list[Tensor]) -> dict[str, Any]:
        """Raw predictions of the branches that exist (see the class)."""
        raw: dict[str, Any] = {}
        if self.has_one2many:
            raw["one2many"] = self.run_branches(maps, "")
        if self.has_one2one:
            seen = [each.detach() for each in maps] if self.training else maps
            raw["one2one"] = self.run_branches(seen, "one2one_")
        return raw if self.has_one2one else raw["one2many"]

    def run_branches(self, maps: list[Tensor], prefix: str) -> dict[str, Any]:
        """One pair of branches over all levels; `prefix` is that of its child names. What other heads add to."""
        boxes, scores = getattr(self, f"{prefix}cv2"), getattr(self, f"{prefix}cv3")
        return {
            "boxes": join_levels([self.run_branch(branch, each) for branch, each in zip(boxes, maps, strict=True)]),
            "scores": join_levels([self.run_branch(branch, each) for branch, each in zip(scores, maps, strict=True)]),
            "feats": maps,
        }

    def run_branch(self, branch: nn.Sequential, x: Tensor) -> Tensor:
        """One branch at one level, (B, C_i, H_i, W_i) → (B, outputs, H_i, W_i).

        In eval mode its last convolution runs in the type of its weights even under autocast: bfloat16 has 256 values
        between 1 and 2, so scores would tie and boxes move by half a percent of their size.
        """
        for layer in branch[:-1]:
            x = layer(x)
        return self.run_last(branch[-1], x)

    def run_last(self, last: nn.Module, x: Tensor) -> Tensor:
        """The last convolution of a branch, see `run_branch`."""
        if self.training or x.dtype == last.weight.dtype:
            return last(x)
        with torch.autocast(x.device.type, enabled=False):
            return last(x.to(last.weight.dtype))

    def decode(self, raw: dict[str, Any]) -> Tensor:
        """Raw predictions → what a user asked for by the switch (see the class)."""
        if self.end2end:
            rows = self.decode_branch(raw["one2one"], corners=True).transpose(1, 2)  # (B, A, 4 + nc + extra)
            return top_k_end_to_end(rows, self.nc, max_det=self.max_det, agnostic=self.agnostic_nms)
        return self.decode_branch(raw.get("one2many", raw), corners=False)

    def decode_branch(self, raw: dict[str, Any], *, corners: bool) -> Tensor:
        """(B, 4 + nc, A): boxes as xyxy (`corners`) or xywh in pixels, then scores after the sigmoid."""
        # A cell's coordinate plus a distance needs more digits than half precision has.
        dtype = torch.promote_types(raw["boxes"].dtype, torch.float32)
        points, strides = self.anchors_for(raw["feats"], dtype)
        distances = raw["boxes"].to(dtype).transpose(1, 2)  # (B, A, 4R)
        if self.reg_max > 1:
            distances = self.dfl(distances.unflatten(2, (4, self.reg_max)))
        boxes = decode_distances(distances, points) * strides  # (B, A, 4) xyxy, pixels
        if not corners:
            boxes = xyxy_to_xywh(boxes)
        return torch.cat([boxes.transpose(1, 2), raw["scores"].to(dtype).sigmoid()], 1)

    def anchors_for(self, maps: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(A, 2) points in cells and (A, 1) strides for maps of these sizes; kept for the next image of that size."""
        key = ([tuple(each.shape[2:]) for each in maps], dtype, maps[0].device)
        if self._anchors is None or self._anchors[0] != key:
            with torch.inference_mode(False):  # kept tensors must also serve a later pass with gradients
                points, strides = make_anchors(key[0], self.stride.tolist(), dtype=dtype, device=maps[0].device)
            self._anchors = (key, points, strides)
        return self._anchors[1], self._anchors[2]

    @torch.no_grad()
    def init_biases(self) -> None:
        """First boxes of a sane size, first scores as rare as objects are. Needs `stride`.

        Source: Lin et al., Focal Loss, arXiv:1708.02002, section 3.3 (prior of the class scores).
        """
        for prefix in self.branch_prefixes():
            for box, score, stride in zip(
                getattr(self, f"{prefix}cv2"), getattr(self, f"{prefix}cv3"), self.stride.tolist(), strict=True
            ):
                box[-1].bias.fill_(BOX_BIAS)
                score[-1].bias.fill_(math.log(OBJECTS_AT_640 / self.nc / (640 / stride) ** 2))

    def branch_prefixes(self) -> list[str]:
        return ([""] if self.has_one2many else []) + (["one2one_"] if self.has_one2one else [])

    @property
    def foldable(self) -> bool:
        """Whether there are branches that `fold` would drop."""
        return self.has_one2one and self.has_one2many

    def fold(self) -> None:
        """Drop the branches that the switch does not use, in place."""
        if self.has_one2one and self.has_one2many:
            unused = "" if self.end2end else "one2one_"
            for name in self.branches:
                delattr(self, unused + name)

    def make_class_branches(self, hidden: int, *, old_style: bool | None = None) -> nn.ModuleList:
        """Fresh class branches. Published weights may have another inner width and style than a fresh head."""
        self.old_style = self.old_style if old_style is None else old_style
        make = old_class_branch if self.old_style else class_branch
        like = self.cv2[0][-1].weight
        branches = nn.ModuleList(make(width, hidden, self.nc) for width in self.in_channels)
        if isinstance(getattr(self.cv2[0][0], "bn", None), nn.GroupNorm):  # the network was built with `norm: gn`
            group_norm.convert(branches)
        return branches.to(like.device, like.dtype).train(self.training)


def box_branch(width: int, hidden: int, outputs: int) -> nn.Sequential:
    """(B, width, H, W) → (B, outputs, H, W): also the shape of keypoint, mask and angle branches."""
    return nn.Sequential(Conv(width, hidden, 3), Conv(hidden, hidden, 3), nn.Conv2d(hidden, outputs, 1))


def class_branch(width: int, hidden: int, nc: int) -> nn.Sequential:
    """(B, width, H, W) → (B, nc, H, W) with depthwise 3×3 and pointwise convolutions."""
    return nn.Sequential(
        nn.Sequential(DWConv(width, width, 3), Conv(width, hidden, 1)),
        nn.Sequential(DWConv(hidden, hidden, 3), Conv(hidden, hidden, 1)),
        nn.Conv2d(hidden, nc, 1),
    )


def old_class_branch(width: int, hidden: int, nc: int) -> nn.Sequential:
    """(B, width, H, W) → (B, nc, H, W) with full 3×3 convolutions."""
    return nn.Sequential(Conv(width, hidden, 3), Conv(hidden, hidden, 3), nn.Conv2d(hidden, nc, 1))


def join_levels(maps: Sequence[Tensor]) -> Tensor:
    """List of (B, C, H_i, W_i) → (B, C, A).

    In memory C is the fastest axis: the maps are channels-last already, and losses want (B, A, C), so that no step
    on the way moves data but this join.
    """
    return torch.cat([each.flatten(2).transpose(1, 2) for each in maps], 1).transpose(1, 2)
