"""The detection loss: classification of every anchor, overlap and distances of the positives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn

from sightline.errors import DataError, ModelError, TrainingError
from sightline.losses.assign.candidates import CandidatePairs, send
from sightline.losses.assign.task_aligned import Assignment, TaskAlignedAssigner
from sightline.losses.normalise import divisor_and_batch
from sightline.losses.precision import at_least_float32
from sightline.losses.targets import on_host, pad_targets, wrong_classes
from sightline.losses.terms.boxes import BoxLoss
from sightline.losses.terms.classification import sparse_cross_entropy
from sightline.losses.terms.focal import modulation, sparse_focal_cross_entropy
from sightline.losses.terms.smoothing import smooth_places, smooth_table
from sightline.ops.anchors import decode_distances, make_anchors

# Key of a dict in the batch in which the branches of one model share what depends on the targets alone. Who wants that
# (E2ELoss) puts the dict there; without it nothing is remembered.
SHARED = "_shared_by_losses"

# What a model without settings is trained with.
DEFAULT_GAINS = {
    "box": 7.5,
    "cls": 0.5,
    "dfl": 1.5,
    "pose": 12.0,
    "kobj": 1.0,
    "rle": 1.0,
    "epochs": 100,
    "focal_gamma": 0.0,
    "label_smoothing": 0.0,
}

Items = dict[str, Tensor]


@dataclass(frozen=True)
class Targets:
    """The targets of a batch in the forms the loss needs. M: most targets of one image."""

    labels: Tensor  # (B, M) int64
    boxes: Tensor  # (B, M, 4) xyxy, pixels
    valid: Tensor  # (B, M) bool, False for padding
    points: Tensor  # (A, 2) anchor points, grid units
    strides: Tensor  # (A, 1) pixels per unit
    pairs: CandidatePairs | None  # None for an assigner that lists none


class v8DetectionLoss:
    """Task-aligned assignment, then classification, overlap and distance terms.

    Any of the attributes may be replaced after construction: `bce` (one cost an element, from logits and targets of
    (B, A, C)), `assigner` (anything called like `TaskAlignedAssigner.forward`), `bbox_loss` (called like
    `BoxLoss.forward`), `proj`, `class_weights`; so may the methods `preprocess` and `bbox_decode`.

    Args:
        model: gives the device (its first parameter), `args` (gains box, cls, dfl; focal_gamma, label_smoothing), the
            geometry of its head (`model[-1]`: stride, nc, reg_max) and, if set, `class_weights` and
            `positive_weights`: (nc,) factors of each class, for all of its cost or for that of the objects only.
        tal_topk: anchors picked per target.
        tal_topk2: anchors left per target in the end; None for `tal_topk`.

    Sources: Feng et al., TOOD, arXiv:2108.07755; Li et al., Generalized Focal Loss, arXiv:2006.04388.
    """

    def __init__(self, model: Any, tal_topk: int = 10, tal_topk2: int | None = None) -> None:
        head = head_of(model)
        self.device: torch.device = next(model.parameters()).device
        self.hyp = _gains(model.args)
        self.stride: Tensor = head.stride
        self.nc: int = head.nc
        self.reg_max: int = head.reg_max
        self.no = self.nc + 4 * self.reg_max
        self.use_dfl = self.reg_max > 1
        self.loss_names = ("box_loss", "cls_loss", "dfl_loss" if self.use_dfl else "l1_loss")
        weights = getattr(model, "class_weights", None)
        self.class_weights: Tensor | None = None if weights is None else weights.to(self.device).view(1, 1, -1)
        lifted = getattr(model, "positive_weights", None)
        lifted = None if lifted is None else lifted.to(self.device).view(-1)
        self.bce: Callable[[Tensor, Tensor], Tensor] = nn.BCEWithLogitsLoss(reduction="none", pos_weight=lifted)
        # To notice that a subclass has put another `bce` where the weights were: then they would not be in force.
        self._weighted_bce = None if lifted is None else self.bce
        self.level_strides = [float(stride) for stride in self.stride]  # read once: the tensor may lie on a GPU
        self.assigner: Any = TaskAlignedAssigner(
            topk=tal_topk, num_classes=self.nc, alpha=0.5, beta=6.0, stride=self.level_strides, topk2=tal_topk2
        )
        self.bbox_loss: Any = BoxLoss(self.reg_max).to(self.device)
        self.proj = torch.arange(self.reg_max, dtype=torch.float, device=self.device)
        self.images: Tensor | int = 0  # B of the batch at hand: what the terms are multiplied by

    def __call__(self, preds: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Items]:
        """Loss of what the model returned, in training or evaluation form. See `loss`."""
        return self.loss(self.parse_output(preds), batch)

    def parse_output(self, preds: Any) -> Any:
        """The raw head output: in evaluation the model returns it beside the decoded one."""
        return preds[1] if isinstance(preds, tuple) else preds

    def loss(self, preds: Mapping[str, Any], batch: Mapping[str, Any]) -> tuple[Tensor, Items]:
        """Weighted terms of a batch.

        Args:
            preds: raw head output: `boxes` (B, 4 × reg_max, A), `scores` (B, C, A) logits, `feats` one map per level.
            batch: `batch_idx` (N,), `cls` (N,) or (N, 1), `bboxes` (N, 4) xywh divided by the image size; rows in any
                order. On the host or on the device; on the host saves a wait for a GPU.

        Returns:
            (3,) box, class and distance term, times their gains and B, to be added up; and the detached terms by name,
            not times B. In training on several ranks (`normalise.over_ranks`) B is that of the mean rank, and the terms
            are this rank's part: their mean over the ranks is the value of the whole batch.
        """
        self.images = preds["boxes"].shape[0]
        _, terms, items = self.get_assigned_targets_and_loss(preds, batch)
        return terms * self.images, items

    def get_assigned_targets_and_loss(
        self, preds: Mapping[str, Any], batch: Mapping[str, Any], **assign: Any
    ) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor, Items]:
        """The three terms, and what the losses of other tasks need to go on from the same assignment.

        Args:
            preds: as `loss`.
            batch: as `loss`.
            assign: goes to the assigner, for overlaps that need more than boxes.

        Returns:
            ((B, A) bool positives; (B, A) int64 rows of their targets; (B, A, 4) target boxes xyxy in pixels; (A, 2)
            anchor points; (A, 1) strides), (3,) terms times gains, and the detached terms by name.
        """
        targets, assignment, terms = self.detection_terms(preds, batch, **assign)
        rows = assignment.target_gt_idx()
        assigned = (assignment.fg_mask(), rows, _boxes_of(rows, targets.boxes), targets.points, targets.strides)
        return assigned, terms, dict(zip(self.loss_names, terms.detach().unbind(), strict=True))

    def detection_terms(
        self, preds: Mapping[str, Any], batch: Mapping[str, Any], **assign: Any
    ) -> tuple[Targets, Assignment, Tensor]:
        """As `get_assigned_targets_and_loss`, the assignment as a list of the positives: (3,) terms times gains."""
        with torch.autocast(preds["boxes"].device.type, enabled=False):
            raw, logits = at_least_float32(preds["boxes"]), preds["scores"]
            shapes = level_shapes(preds)
            image_hw = (shapes[0][0] * self.level_strides[0], shapes[0][1] * self.level_strides[0])
            targets = self._targets(batch, shapes, image_hw, raw)
            assignment, dense_scores = self._assign(raw, logits, targets, **assign)
            labels = targets.labels[assignment.image, assignment.slot]

            total_score = (assignment.score if dense_scores is None else dense_scores).sum()
            divisor, self.images = divisor_and_batch(total_score, raw.shape[0])
            class_term = self._classification(logits, assignment, labels, dense_scores) / divisor
            box_term, distance_term = self._boxes(raw, assignment, targets, image_hw)
            gains = (self.hyp.box, self.hyp.cls, self.hyp.dfl)
            terms = torch.stack(
                [
                    box_term / divisor * gains[0],
                    class_term.to(box_term.dtype) * gains[1],
                    distance_term / divisor * gains[2],
                ]
            )
        return targets, assignment, terms

    def preprocess(self, targets: Tensor, batch_size: int, scale_tensor: Tensor) -> Tensor:
        """(N, 6) rows of image index, class and xywh → (B, M, 5) class and xyxy in pixels, on the host."""
        return pad_targets(targets, batch_size, scale_tensor)

    def bbox_decode(self, anchor_points: Tensor, pred_dist: Tensor) -> Tensor:
        """What the head said → boxes.

        Args:
            anchor_points: (A, 2) grid units.
            pred_dist: (B, A, 4 × reg_max); bins of a side lie together.

        Returns:
            (B, A, 4) xyxy, grid units.
        """
        if self.use_dfl:
            bins = pred_dist.view(*pred_dist.shape[:-1], 4, self.reg_max)
            pred_dist = bins.softmax(-1).matmul(self.proj.to(pred_dist.dtype))
        return decode_distances(pred_dist, anchor_points)

    def _targets(
        self, batch: Mapping[str, Any], shapes: list[tuple[int, int]], image_hw: tuple[float, float], raw: Tensor
    ) -> Targets:
        """Pad the targets and list candidates; shared between branches that use the same functions for it."""
        shared = batch.get(SHARED)
        key = (self._sharing_key(), tuple(shapes), raw.dtype, raw.device)
        if shared is not None and key in shared:
            return cast(Targets, shared[key])
        # The only place in this loss that may wait for a GPU: targets which somebody made or changed there.
        parts = (on_host(batch["batch_idx"]).view(-1, 1), on_host(batch["cls"]).view(-1, 1), on_host(batch["bboxes"]))
        rows = torch.cat([*parts[:2], parts[2].view(-1, 4)], dim=1)
        height, width = image_hw
        scale = torch.tensor([width, height, width, height], dtype=raw.dtype)
        padded = self.preprocess(rows.to(raw.dtype), raw.shape[0], scale).cpu()  # (B, M, 5)
        labels, boxes = padded[..., 0].long(), padded[..., 1:5]
        # Rows of padding are zero. A true box of four zeros has no area and overlaps nothing, so it may count as one.
        valid = (boxes != 0).any(-1) & boxes.isfinite().all(-1)
        self._check_classes(labels[valid])
        points, strides = make_anchors(shapes, self.level_strides, dtype=raw.dtype, device=raw.device)
        pairs = None
        if _lists_pairs(self.assigner):
            pairs = self.assigner.candidates(boxes, valid, points * strides, shapes)
        labels, boxes, valid = (send(part, raw.device) for part in (labels, boxes, valid))
        targets = Targets(labels, boxes, valid, points, strides, pairs)
        if shared is not None:
            shared[key] = targets
        return targets

    def _sharing_key(self) -> tuple[Any, ...]:
        """What must be equal for two losses to share targets and candidates."""
        assigner = self.assigner
        listing = (type(assigner).candidates, tuple(assigner.stride)) if _lists_pairs(assigner) else None
        return getattr(self.preprocess, "__func__", self.preprocess), tuple(self.level_strides), self.nc, listing

    def _check_classes(self, labels: Tensor) -> None:
        if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= self.nc):
            raise DataError(wrong_classes(labels, self.nc))

    @torch.no_grad()
    def _assign(self, raw: Tensor, logits: Tensor, targets: Targets, **extra: Any) -> tuple[Assignment, Tensor | None]:
        """Positives; and a (B, A, C) table of target scores if the assigner made one."""
        boxes = self.bbox_decode(targets.points, raw.detach().permute(0, 2, 1)) * targets.strides  # (B, A, 4) pixels
        pairs = targets.pairs
        if pairs is not None:
            classes, anchors = logits.shape[1:]
            class_ = targets.labels.reshape(-1).index_select(0, pairs.target)
            place = (pairs.image * classes + class_) * anchors + pairs.anchor
            at_pairs = logits.detach().reshape(-1).index_select(0, place)
            scores = at_least_float32(at_pairs).sigmoid()
            return self.assigner.assign(pairs, scores, boxes, targets.boxes, **extra), None
        scores = at_least_float32(logits.detach()).permute(0, 2, 1).sigmoid()
        points = targets.points * targets.strides
        labels, valid = targets.labels[..., None], targets.valid[..., None].to(boxes.dtype)
        _, _, dense_scores, positive, rows = self.assigner(scores, boxes, points, labels, targets.boxes, valid, **extra)
        image, anchor = positive.bool().nonzero(as_tuple=True)
        weight = dense_scores.sum(-1)[image, anchor]
        slot = rows[image, anchor].long()
        return Assignment(image, anchor, slot, weight, None, *positive.shape), dense_scores

    def _classification(
        self, logits: Tensor, assignment: Assignment, labels: Tensor, dense_scores: Tensor | None
    ) -> Tensor:
        """() cross-entropy of all anchors and classes, added up."""
        self._check_bce(logits.device)
        gamma, smoothing = float(read_gain(self.hyp, "focal_gamma")), float(read_gain(self.hyp, "label_smoothing"))
        if dense_scores is None and _is_cross_entropy(self.bce):
            places = (assignment.image, labels, assignment.anchor, assignment.score)
            weights = None if self.class_weights is None else self.class_weights.view(-1)
            lifted = _expanded(cast(nn.BCEWithLogitsLoss, self.bce).pos_weight, self.nc)
            if smoothing:
                places = smooth_places(*places, self.nc, smoothing)
            if gamma:
                return sparse_focal_cross_entropy(logits, *places, gamma, weights, lifted)
            return sparse_cross_entropy(logits, *places, weights, lifted)
        if dense_scores is None:
            dense_scores = assignment.target_scores(labels, self.nc)
        logits = at_least_float32(logits).permute(0, 2, 1)  # (B, A, C)
        targets = dense_scores.to(logits.dtype)
        if smoothing:
            targets = smooth_table(targets, smoothing)
        costs = self.bce(logits, targets)
        if costs.shape != logits.shape:
            raise TrainingError(
                f"self.bce of {type(self).__name__} returned a tensor of {tuple(costs.shape)} for logits and targets "
                f"of {tuple(logits.shape)}. It returns one cost for each of them: "
                'nn.BCEWithLogitsLoss(reduction="none", …). What it is divided by follows later.'
            )
        if gamma:
            costs = costs * modulation(logits, targets, gamma)
        if self.class_weights is not None:
            costs = costs * self.class_weights
        return costs.sum()

    def _check_bce(self, device: torch.device) -> None:
        """Before it is used: weights of the right length, on the right device, and none that got lost."""
        if self._weighted_bce is not None and self.bce is not self._weighted_bce:
            raise TrainingError(
                f"class_weights= is the pos_weight of self.bce, but {type(self).__name__} puts a bce of its own there, "
                "so it would not be in force. Leave class_weights= out, or keep self.bce as v8DetectionLoss makes it."
            )
        if not isinstance(self.bce, nn.BCEWithLogitsLoss) or self.bce.pos_weight is None:
            return
        if self.bce.pos_weight.device != device:
            self.bce.to(device)  # once: people write torch.tensor([…]) in their __init__
        if self.bce.pos_weight.numel() not in (1, self.nc):
            raise TrainingError(
                f"self.bce of {type(self).__name__} has pos_weight for {self.bce.pos_weight.numel()} classes, but the "
                f"model knows {self.nc}. Give one weight a class."
            )

    def _boxes(
        self, raw: Tensor, assignment: Assignment, targets: Targets, image_hw: tuple[float, float]
    ) -> tuple[Tensor, Tensor]:
        """() overlap term and () distance term of the positives, weighted by their score and added up."""
        image, anchor = assignment.image, assignment.anchor
        said = raw.permute(0, 2, 1)[image, anchor]  # (S, 4 × reg_max)
        points, strides = targets.points[anchor], targets.strides[anchor]
        target = targets.boxes[image, assignment.slot] / strides  # grid units
        predicted = self.bbox_decode(points, said[None])[0]
        overlap, distance = self.bbox_loss(said, predicted, target, points, strides, image_hw)
        return (overlap * assignment.score).sum(), (distance * assignment.score).sum()


def level_shapes(preds: Mapping[str, Any]) -> list[tuple[int, int]]:
    """(height, width) of each level."""
    return [(int(level.shape[-2]), int(level.shape[-1])) for level in preds["feats"]]


def _boxes_of(rows: Tensor, boxes: Tensor) -> Tensor:
    """(B, A) rows, (B, M, 4) → (B, A, 4); zeros if there is no target."""
    if not boxes.shape[1]:
        return boxes.new_zeros(*rows.shape, 4)
    return boxes.gather(1, rows[..., None].expand(-1, -1, 4))


def _lists_pairs(assigner: Any) -> bool:
    """Whether the assigner can be used without dense tables: ours, unless a subclass changed what calling it does."""
    return isinstance(assigner, TaskAlignedAssigner) and type(assigner).forward is TaskAlignedAssigner.forward


def _is_cross_entropy(bce: Any) -> bool:
    """Whether it is just PyTorch's, perhaps with constant weights of the positive part: then no table is needed."""
    if type(bce) is not nn.BCEWithLogitsLoss or bce.reduction != "none" or bce.weight is not None:
        return False
    return bce.pos_weight is None or not bce.pos_weight.requires_grad


def _expanded(weights: Tensor | None, classes: int) -> Tensor | None:
    """(C,) weights of a `pos_weight` of any shape that has one value, or one a class."""
    return None if weights is None else weights.reshape(-1).expand(classes)


def read_gain(hyp: Any, name: str) -> float:
    """A number that an older or a hand-made object of gains may lack."""
    return getattr(hyp, name, DEFAULT_GAINS[name])


def _gains(args: Any) -> Any:
    """`model.args` as an object with attributes; a model without settings gets the defaults."""
    if args is None or isinstance(args, Mapping):
        return SimpleNamespace(**{**DEFAULT_GAINS, **(args or {})})
    return args


def head_of(model: Any) -> Any:
    """The last layer, which gives the geometry.

    Raises:
        ModelError: a network of the user's own has no such layer.
    """
    try:
        head = model.model[-1]
    except (AttributeError, TypeError, IndexError, KeyError):
        head = None
    lacking = [name for name in ("stride", "nc", "reg_max") if not hasattr(head, name)]
    if lacking:
        found = "none" if head is None else f"{type(head).__name__} there, without {', '.join(lacking)}"
        raise ModelError(
            "The detection loss needs a network with a Detect head as its last layer, model[-1]; "
            f"{type(model).__name__} has {found}. "
            "Give the network a loss(batch, preds=None) of its own, which returns terms to be added up and a dict."
        )
    return head
