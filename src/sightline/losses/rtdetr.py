"""The loss of RT-DETR: every target has one query, in every layer of the decoder and in the encoder's choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sightline.losses.assign.candidates import send
from sightline.losses.assign.hungarian import HungarianMatcher, Matches
from sightline.losses.normalise import mean_over_ranks, rank_count
from sightline.losses.precision import at_least_float32
from sightline.losses.targets import TargetRows, target_rows
from sightline.losses.terms.varifocal import varifocal_sum
from sightline.ops.iou import matched_iou

if TYPE_CHECKING:
    from sightline.structures.denoising import DenoisingQueries

GAINS = {"class": 1.0, "bbox": 5.0, "giou": 2.0}
SETTINGS = {"class": "cls", "bbox": "dfl", "giou": "box"}  # the gain of each term; the trainer sets them to the above
GAMMA = 1.5
BACKGROUND = 0.25  # α of what no target belongs to
BACKGROUND_ALONE = 0.75  # in a batch without any target: what published weights were trained with (plain focal loss)

Items = dict[str, Tensor]


class RTDETRDetectionLoss:
    """Varifocal loss of the classes, L1 and GIoU of the boxes, each divided by the number of matches.

    The same loss is put on the boxes and scores of every decoder layer and of the cells that the encoder chose, each
    matched by itself, and on the denoising queries, whose targets are known. `matcher` may be replaced by anything
    called like it.

    Args:
        model: gives the number of classes (`model[-1].nc`); if set, `args` (the gains of `SETTINGS`; focal_gamma, in
            the place of γ), and `class_weights` and `positive_weights`: (nc,) factors of each class, for all of its
            cost or for that of the objects only.
        gains: of the terms class, bbox and giou, in the place of those in `args`.

    Sources: Lv et al., RT-DETR, arXiv:2304.08069; Zhang et al., DINO, arXiv:2203.03605; Zhang et al., VarifocalNet,
    arXiv:2008.13367; Rezatofighi et al., Generalized IoU, arXiv:1902.09630.
    """

    loss_names = ("giou_loss", "cls_loss", "l1_loss")

    def __init__(self, model: Any, gains: Mapping[str, float] | None = None) -> None:
        self.nc: int = model.model[-1].nc
        self.hyp: Any = getattr(model, "args", None)
        self.gains = dict(gains or {})
        self.class_weights: Tensor | None = getattr(model, "class_weights", None)
        self.positive_weights: Tensor | None = getattr(model, "positive_weights", None)
        self.matcher: Any = HungarianMatcher()

    def __call__(self, preds: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Items]:
        """Loss of what the model returned, in training or evaluation form.

        Args:
            preds: raw head output (see `RTDETRDecoder`), or (decoded, raw).
            batch: `batch_idx` (N,), `cls` (N,) or (N, 1), `bboxes` (N, 4) xywh divided by the image size; rows in any
                order. On the host saves a wait for a GPU.

        Returns:
            (3,) giou, class and l1 term, each with those of all layers and of denoising, to be added up (not times B);
            and the detached terms of the last layer by name. In training on several ranks the terms are this rank's
            part of the whole batch's.
        """
        parts, ranks = self.parts(preds, batch)
        suffixes = ("", "_aux", "_dn", "_aux_dn")
        kinds = ("giou", "class", "bbox")
        terms = torch.stack([torch.stack([parts[f"loss_{kind}{end}"] for end in suffixes]).sum() for kind in kinds])
        # What is reported is averaged over the ranks, what is trained with is added up: see `normalise.py`.
        last = [parts[f"loss_{kind}"].detach() * ranks for kind in kinds]
        return terms, dict(zip(self.loss_names, last, strict=True))

    def parts(self, preds: Any, batch: Mapping[str, Any]) -> tuple[dict[str, Tensor], int]:
        """The twelve terms by name, and the number of ranks that each holds a part of them. See `of_layers`."""
        raw = preds[1] if isinstance(preds, tuple) else preds
        denoising = raw["denoising"]
        extra = 0 if denoising is None else denoising.count
        with torch.autocast(raw["boxes"].device.type, enabled=False):
            boxes, scores = at_least_float32(raw["boxes"]), at_least_float32(raw["scores"])
            targets = target_rows(batch, boxes.shape[1], self.nc)
            own_boxes = torch.cat([at_least_float32(raw["encoder_boxes"])[None], boxes[:, :, extra:]])
            own_scores = torch.cat([at_least_float32(raw["encoder_scores"])[None], scores[:, :, extra:]])
            noisy = None if denoising is None else (boxes[:, :, :extra], scores[:, :, :extra], denoising)
            return self.of_layers(own_boxes, own_scores, targets, noisy), rank_count()

    def of_layers(
        self,
        boxes: Tensor,
        scores: Tensor,
        targets: TargetRows,
        noisy: tuple[Tensor, Tensor, DenoisingQueries] | None = None,
    ) -> dict[str, Tensor]:
        """The twelve terms by name.

        Args:
            boxes: (L, B, Q, 4) xywh in [0, 1]; the last layer is the main one.
            scores: (L, B, Q, C) logits.
            targets: of the batch.
            noisy: boxes and scores of the denoising queries, of any number of layers, and what they stand for.

        Returns:
            `loss_class`, `loss_bbox`, `loss_giou` of the last layer; with `_aux` the sum over the others; with `_dn`
            and `_aux_dn` those of the denoising queries, 0 without any.
        """
        matches = self.matcher(boxes, scores, targets)
        known = torch.zeros(3, 0, dtype=torch.long)  # image, query and target of the denoising queries
        if noisy is not None:
            known = torch.stack([noisy[2].image, noisy[2].query, noisy[2].target])
        counts = torch.tensor([len(matches.layer) / len(boxes), known.shape[1]], dtype=boxes.dtype)
        counts = mean_over_ranks(send(counts, boxes.device)) * rank_count()
        parts = self._terms(boxes, scores, matches, targets, counts[0])
        if noisy is None:
            return {**parts, **{f"{name}_dn": boxes.new_zeros(()) for name in parts}}
        layers = len(noisy[0])
        places = torch.arange(layers).repeat_interleave(known.shape[1])
        fixed = Matches(places, *known.repeat(1, layers).unbind())
        of_noise = self._terms(noisy[0], noisy[1], fixed, targets, counts[1])
        return {**parts, **{f"{name}_dn": value for name, value in of_noise.items()}}

    def _terms(
        self, boxes: Tensor, scores: Tensor, matches: Matches, targets: TargetRows, count: Tensor
    ) -> dict[str, Tensor]:
        """The six terms of one set of queries; the last of the layers is the main one.

        Args:
            boxes: (L, B, Q, 4) xywh in [0, 1].
            scores: (L, B, Q, C) logits.
            matches: on the host; equally many in every layer.
            targets: of the batch.
            count: () matches of a layer in the whole batch, of all ranks.
        """
        layers = len(boxes)
        labels = targets.labels[matches.target]
        # One copy to the device for all numbers of the assignment, and one for the boxes.
        layer, image, query, labels = send(torch.stack([*matches[:3], labels]), boxes.device).unbind()
        wanted = send(targets.boxes[matches.target].to(boxes.dtype), boxes.device)  # (S, 4)
        found = boxes[layer, image, query]  # (S, 4)
        quality = matched_iou(found.detach(), wanted, "iou", xywh=True).squeeze(-1)  # (S,)
        divisor = count.clamp(min=1)
        distance = (found - wanted).abs().sum(-1).view(layers, -1).sum(1) / divisor  # (L,)
        overlap = 1 - matched_iou(found, wanted, "giou", xywh=True).squeeze(-1)
        overlap = overlap.view(layers, -1).sum(1) / divisor
        background = torch.where(count > 0, BACKGROUND, BACKGROUND_ALONE)
        gamma = self.read("focal_gamma", 0.0) or GAMMA
        main = len(layer) - len(layer) // layers  # from here on pairs are of the last layer
        ends = ((slice(main, None), scores[-1:], layer[main:] - (layers - 1)), (slice(main), scores[:-1], layer[:main]))
        last, others = (
            varifocal_sum(
                logits,
                (which, image[part], query[part], labels[part]),
                quality[part],
                background,
                gamma,
                weights=self.class_weights,
                positive_weights=self.positive_weights,
            )
            for part, logits, which in ends
        )
        return {
            "loss_class": last / divisor * self.gain("class"),
            "loss_bbox": distance[-1] * self.gain("bbox"),
            "loss_giou": overlap[-1] * self.gain("giou"),
            "loss_class_aux": others / divisor * self.gain("class"),
            "loss_bbox_aux": distance[:-1].sum() * self.gain("bbox"),
            "loss_giou_aux": overlap[:-1].sum() * self.gain("giou"),
        }

    def gain(self, term: str) -> float:
        """What the term class, bbox or giou is multiplied with now."""
        return self.gains[term] if term in self.gains else self.read(SETTINGS[term], GAINS[term])

    def read(self, setting: str, otherwise: float) -> float:
        """A number of the settings; a model without them has none."""
        if isinstance(self.hyp, Mapping):
            return float(self.hyp.get(setting, otherwise))
        return float(getattr(self.hyp, setting, otherwise))
