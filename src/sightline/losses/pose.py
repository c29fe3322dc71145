"""The losses of pose estimation: what the detection loss has, and where the keypoints of the positives lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import DataError, ModelError
from sightline.losses.assign.candidates import lengths_are_free, send
from sightline.losses.assign.keypoint_aligned import KeypointAlignedAssigner
from sightline.losses.assign.task_aligned import Assignment
from sightline.losses.detect import SHARED, Items, Targets, head_of, level_shapes, read_gain, v8DetectionLoss
from sightline.losses.normalise import mean_over_ranks, rank_count
from sightline.losses.precision import at_least_float32
from sightline.losses.targets import on_host, pad_rows
from sightline.losses.terms.keypoints import keypoint_similarity_loss, residual_likelihood_loss
from sightline.ops.anchors import make_anchors
from sightline.ops.keypoints import PEOPLE, decode_keypoints, keypoint_sigmas

# How much the points of a person count for the likelihood: elbows and knees more, wrists and ankles most.
PEOPLE_WEIGHTS = (1.0,) * 7 + (1.2, 1.2, 1.5, 1.5, 1.0, 1.0, 1.2, 1.2, 1.5, 1.5)


@dataclass(frozen=True)
class Positives:
    """The S positives of a batch with their keypoints. Coordinates in grid units; `used` False for rows that fill."""

    predicted: Tensor  # (S, K, D)
    target: Tensor  # (S, K, 3) x, y, visibility
    area: Tensor  # (S,) of the target's box
    used: Tensor  # (S,) bool
    assignment: Assignment

    @property
    def visible(self) -> Tensor:
        """(S, K) bool."""
        return (self.target[..., 2] != 0) & self.used[:, None]


class v8PoseLoss(v8DetectionLoss):
    """Detection, similarity of the keypoints, and whether they can be seen (YOLOv8, YOLO11).

    Args:
        model: as `v8DetectionLoss`; its head also gives `kpt_shape`, its `args` the gains pose and kobj, and
            `kpt_oks_sigmas`, if set, K numbers in the place of the usual sigmas.
        tal_topk: as `v8DetectionLoss`.
        tal_topk2: as `v8DetectionLoss`.

    Source: Maji et al., YOLO-Pose, arXiv:2204.06806.
    """

    factor, offset = 2.0, -0.5  # of `decode_keypoints`; as the head has them

    def __init__(self, model: Any, tal_topk: int = 10, tal_topk2: int | None = None) -> None:
        super().__init__(model, tal_topk, tal_topk2)
        head = head_of(model)
        if not hasattr(head, "kpt_shape"):
            raise ModelError(
                f"The pose loss needs a network with a pose head (Pose, Pose26) as its last layer; that of "
                f"{type(model).__name__} is {type(head).__name__}. Use a pose model, for example yolo26n-pose.yaml."
            )
        self.kpt_shape: tuple[int, int] = tuple(head.kpt_shape)  # type: ignore[assignment]
        self.sigmas = torch.tensor(
            keypoint_sigmas(self.kpt_shape, getattr(model, "kpt_oks_sigmas", None)), device=self.device
        )
        box, cls, distance = self.loss_names
        self.loss_names: tuple[str, ...] = (box, "pose_loss", "kobj_loss", cls, distance)  # type: ignore[assignment]

    def loss(self, preds: Mapping[str, Any], batch: Mapping[str, Any]) -> tuple[Tensor, Items]:
        """Weighted terms of a batch.

        Args:
            preds: as `v8DetectionLoss.loss`, and `kpts` (B, K·D, A).
            batch: as there, and `keypoints` (N, K, 2 or 3) x, y divided by the image size, visibility (0 is not
                labelled).

        Returns:
            (5,) box, pose, visibility, class and distance term times gains and B, to be added up; and the detached
            terms by name, not times B. For several ranks as in `v8DetectionLoss.loss`.
        """
        self.images = preds["boxes"].shape[0]
        with torch.autocast(preds["boxes"].device.type, enabled=False):
            keypoints = self._keypoints(preds, batch)
            predicted, points = self._decoded(preds)
            extra = self.assigner_needs(predicted, keypoints, points)
            targets, assignment, (box, cls, distance) = self.detection_terms(preds, batch, **extra)
            positives = self._positives(predicted, keypoints, targets, assignment)
            own = self.keypoint_terms(preds, positives)
        by_name = {"box_loss": box, "cls_loss": cls, self._distance_name: distance, **own}
        terms = torch.stack([by_name[name] for name in self.loss_names])
        return terms * self.images, dict(zip(self.loss_names, terms.detach().unbind(), strict=True))

    def assigner_needs(self, predicted: Tensor, keypoints: Tensor, points: tuple[Tensor, Tensor]) -> dict[str, Any]:
        """What the assigner is given beside boxes: nothing here."""
        return {}

    def keypoint_terms(self, preds: Mapping[str, Any], positives: Positives) -> dict[str, Tensor]:
        """Name → () term times its gain."""
        pose, seen, count = self._similarity_and_visibility(positives)
        (count,) = _divisors(count)
        return {"pose_loss": pose / count, "kobj_loss": seen / count}

    def _similarity_and_visibility(self, positives: Positives) -> tuple[Tensor, Tensor, Tensor]:
        """() pose and () visibility term, added up over points and times their gains; and what to divide both by."""
        visible = positives.visible
        sigmas = self.sigmas.to(positives.predicted.dtype)
        costs = keypoint_similarity_loss(
            positives.predicted[..., :2], positives.target[..., :2], visible, positives.area, sigmas
        )
        pose = costs.sum() * read_gain(self.hyp, "pose")
        seen = pose.detach() * 0
        if self.kpt_shape[1] == 3:
            logits = positives.predicted[..., 2]
            costs = F.binary_cross_entropy_with_logits(logits, visible.to(logits.dtype), reduction="none")
            seen = (costs * positives.used[:, None]).sum() * read_gain(self.hyp, "kobj")
        return pose, seen, positives.used.sum() * self.kpt_shape[0]

    @property
    def _distance_name(self) -> str:
        return "dfl_loss" if self.use_dfl else "l1_loss"

    def _decoded(self, preds: Mapping[str, Any]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, A, K, D) in grid units, the visibility as a logit; and the anchor points with their strides."""
        raw = at_least_float32(preds["kpts"]).permute(0, 2, 1)
        raw = raw.unflatten(2, self.kpt_shape)
        anchors = make_anchors(level_shapes(preds), self.level_strides, dtype=raw.dtype, device=raw.device)
        xy = decode_keypoints(raw[..., :2], anchors[0], factor=self.factor, offset=self.offset)
        return torch.cat([xy, raw[..., 2:]], -1), anchors

    def _keypoints(self, preds: Mapping[str, Any], batch: Mapping[str, Any]) -> Tensor:
        """(B, M, K, 3) x, y in pixels, visibility, in the order of the padded targets."""
        raw = preds["kpts"]
        dtype = torch.promote_types(raw.dtype, torch.float32)
        (height, width), stride = level_shapes(preds)[0], self.level_strides[0]
        shared, key = batch.get(SHARED), ("keypoints", height, width, dtype, raw.device)
        if shared is not None and key in shared:
            return cast(Tensor, shared[key])
        if "keypoints" not in batch:
            raise DataError(
                "The batch has no keypoints, which a pose model learns. Train it on a data set with `kpt_shape` in its "
                "YAML and rows of class, box and keypoints."
            )
        given = on_host(batch["keypoints"]).to(dtype)
        if given.ndim != 3 or given.shape[1] != self.kpt_shape[0] or given.shape[2] not in (2, 3):
            raise DataError(
                f"The batch has keypoints of shape {tuple(given.shape)}, but the model has kpt_shape "
                f"{list(self.kpt_shape)}. Build it with the kpt_shape of the data."
            )
        xy = given[..., :2] * torch.tensor([width * stride, height * stride], dtype=dtype)
        seen = given[..., 2:] if given.shape[2] == 3 else torch.ones_like(given[..., :1])
        image = on_host(batch["batch_idx"]).view(-1).long()
        padded = send(pad_rows(torch.cat([xy, seen], -1), image, raw.shape[0]), raw.device)
        if shared is not None:
            shared[key] = padded
        return padded

    def _positives(self, predicted: Tensor, keypoints: Tensor, targets: Targets, assignment: Assignment) -> Positives:
        image, anchor, slot = assignment.image, assignment.anchor, assignment.slot
        stride = targets.strides[anchor]  # (S, 1)
        true = keypoints[image, slot]
        boxes = targets.boxes[image, slot] / stride
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        target = torch.cat([true[..., :2] / stride[..., None], true[..., 2:]], -1)
        used = torch.ones_like(image, dtype=torch.bool) if assignment.used is None else assignment.used
        return Positives(predicted[image, anchor], target, area, used, assignment)


class PoseLoss26(v8PoseLoss):
    """The same for YOLO26: keypoints decide which anchors learn an object, and errors get a learnt spread.

    Args:
        model: as `v8PoseLoss`; its `args` also gives the gain rle. If the head has a `flow_model`, there is a sixth
            term, rle_loss; in evaluation, where the head says no spread, it is 0.
        tal_topk: as `v8DetectionLoss`.
        tal_topk2: as `v8DetectionLoss`.

    Source: Li et al., Human Pose Regression with Residual Log-likelihood Estimation, arXiv:2107.11291.
    """

    factor, offset = 1.0, 0.0

    def __init__(self, model: Any, tal_topk: int = 10, tal_topk2: int | None = None) -> None:
        super().__init__(model, tal_topk, tal_topk2)
        self.assigner = KeypointAlignedAssigner(
            topk=tal_topk, num_classes=self.nc, alpha=0.5, beta=6.0, stride=self.level_strides, topk2=tal_topk2
        )
        self.flow_model: Any = getattr(head_of(model), "flow_model", None)
        weights = PEOPLE_WEIGHTS if self.kpt_shape == PEOPLE else (1.0,) * self.kpt_shape[0]
        self.keypoint_weights = torch.tensor(weights, device=self.device)
        if self.flow_model is not None:
            self.loss_names = (*self.loss_names, "rle_loss")  # type: ignore[assignment]

    def assigner_needs(self, predicted: Tensor, keypoints: Tensor, points: tuple[Tensor, Tensor]) -> dict[str, Any]:
        pixels = predicted[..., :2].detach() * points[1][:, None]
        return {"pd_keypoints": pixels, "gt_keypoints": keypoints, "sigmas": self.sigmas}

    def keypoint_terms(self, preds: Mapping[str, Any], positives: Positives) -> dict[str, Tensor]:
        pose, seen, count = self._similarity_and_visibility(positives)
        if self.flow_model is None:
            (count,) = _divisors(count)
            return {"pose_loss": pose / count, "kobj_loss": seen / count}
        likelihood, rows = self._likelihood(preds, positives)
        count, rows, whole = _divisors(count, rows, value=likelihood)
        # Sharper than any error is no aim: the mean over the whole batch is worth nothing below 0.
        rle = likelihood / rows * (whole > 0) * read_gain(self.hyp, "rle")
        return {"pose_loss": pose / count, "kobj_loss": seen / count, "rle_loss": rle}

    def _likelihood(self, preds: Mapping[str, Any], positives: Positives) -> tuple[Tensor, Tensor]:
        """() negative log-likelihood of all visible keypoints, added up, and () how many they are."""
        if "kpts_sigma" not in preds:
            zero = positives.predicted.detach().sum() * 0
            return zero, zero.long()
        raw = at_least_float32(preds["kpts_sigma"]).permute(0, 2, 1).unflatten(2, (self.kpt_shape[0], 2))
        spread = raw[positives.assignment.image, positives.assignment.anchor].flatten(0, 1)  # (S · K, 2)
        visible = positives.visible.flatten()
        predicted, target = positives.predicted[..., :2].flatten(0, 1), positives.target[..., :2].flatten(0, 1)
        weight = self.keypoint_weights.to(spread.dtype).expand(len(positives.used), -1).flatten()
        if lengths_are_free(visible):
            rows = visible.nonzero().squeeze(1)
            predicted, target, spread, weight, visible = (
                each.index_select(0, rows) for each in (predicted, target, spread, weight, visible)
            )
        costs, counted = residual_likelihood_loss(predicted, target, spread, weight, visible, self.flow_model)
        return costs.sum(), counted.sum()


def _divisors(*counts: Tensor, value: Tensor | None = None) -> list[Tensor]:
    """What to divide sums by so that they are means over the batch of all ranks; behind them that sum of `value`.

    One call between the ranks for all. A count is at least one of all ranks together, for batches without positives.
    """
    least = 1 / rank_count()
    parts = [count.float() for count in counts] + ([] if value is None else [value.detach().float()])
    means = mean_over_ranks(torch.stack(parts)).unbind()
    return [mean.clamp(min=least) if place < len(counts) else mean for place, mean in enumerate(means)]
