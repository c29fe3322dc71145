"""From a head's decoded output to the rows a user sees: greedy suppression, or the selection of an NMS-free head.

A row is (x1, y1, x2, y2, score, class, extra…), pixels of the network input, best score first. There is no time
limit: an image never ends without boxes because the machine was busy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.ops.boxes import xywh_to_xyxy
from sightline.ops.iou import pairwise_iou

# Candidates compared with each other at once. Larger means fewer, bigger steps; 512² overlaps stay in the cache.
BLOCK = 512


def non_max_suppression(
    prediction: Tensor,
    *,
    nc: int,
    conf: float = 0.25,
    iou: float = 0.45,
    classes: Sequence[int] | None = None,
    agnostic: bool = False,
    multi_label: bool = False,
    max_det: int = 300,
    max_nms: int = 30_000,
) -> list[Tensor]:
    """Keep the best of overlapping boxes, class by class. One (n, 6 + extra) tensor per image.

    The arguments are those of `non_max_suppression_with_anchors`, which also says where each row came from.
    """
    rows, _ = non_max_suppression_with_anchors(
        prediction,
        nc=nc,
        conf=conf,
        iou=iou,
        classes=classes,
        agnostic=agnostic,
        multi_label=multi_label,
        max_det=max_det,
        max_nms=max_nms,
    )
    return rows


def non_max_suppression_with_anchors(
    prediction: Tensor,
    *,
    nc: int,
    conf: float = 0.25,
    iou: float = 0.45,
    classes: Sequence[int] | None = None,
    agnostic: bool = False,
    multi_label: bool = False,
    max_det: int = 300,
    max_nms: int = 30_000,
) -> tuple[list[Tensor], list[Tensor]]:
    """Keep the best of overlapping boxes, class by class.

    Args:
        prediction: (B, 4 + nc + extra, A): boxes xywh in pixels, scores after the sigmoid, then anything else.
        nc: number of classes; what follows them is carried along.
        conf: a score must be above it.
        iou: a box is dropped if it overlaps a better kept one by more.
        classes: only these classes; None for all.
        agnostic: let boxes suppress each other across classes.
        multi_label: a row for every class above `conf`, not for the best alone.
        max_det: rows per image at most, the best ones.
        max_nms: candidates per image at most, the best ones.

    Returns:
        Per image: (n, 6 + extra) float32 rows, best first, equal scores in the order of the anchors; and (n,) int64,
        the anchor of each row.
    """
    candidate_mask = prediction[:, 4 : 4 + nc].amax(1) > conf  # (B, A)
    rows, anchors = [], []
    for image, mask in zip(prediction, candidate_mask, strict=True):
        anchor = mask.nonzero().squeeze(1)  # (n,)
        columns = image[:, anchor].float().t()  # (n, 4 + nc + extra)
        boxes, scores, extra = columns[:, :4], columns[:, 4 : 4 + nc], columns[:, 4 + nc :]
        if multi_label and nc > 1:
            source, class_ = (scores > conf).nonzero(as_tuple=True)
            score = scores[source, class_]
        else:
            score, class_ = scores.max(1) if nc > 1 else (scores[:, 0], torch.zeros_like(anchor))
            source = torch.arange(len(anchor), device=anchor.device)
        if classes is not None:
            wanted = torch.isin(class_, torch.as_tensor(list(classes), device=class_.device))
            source, class_, score = source[wanted], class_[wanted], score[wanted]
        order = score.argsort(descending=True, stable=True)[:max_nms]
        source, class_, score = source[order], class_[order], score[order]
        corners = xywh_to_xyxy(boxes[source])  # (n, 4)
        kept = _keep_sorted(corners, None if agnostic else class_, iou, max_det)
        source = source[kept]
        rows.append(torch.cat([corners[kept], score[kept, None], class_[kept, None].float(), extra[source]], dim=1))
        anchors.append(anchor[source])
    return rows, anchors


def greedy_keep(
    boxes: Tensor, scores: Tensor, iou: float, *, groups: Tensor | None = None, max_keep: int | None = None
) -> Tensor:
    """Which boxes greedy suppression keeps.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        iou: a box is dropped if it overlaps a better kept one by more.
        groups: (N,) labels; boxes of different groups leave each other alone. None: one group.
        max_keep: stop after this many.

    Returns:
        (K,) int64 indices, best score first; equal scores in the order given.
    """
    order = scores.argsort(descending=True, stable=True)
    sorted_groups = None if groups is None else groups[order]
    return order[_keep_sorted(boxes[order], sorted_groups, iou, len(order) if max_keep is None else max_keep)]


def select_end_to_end(
    rows: Tensor, *, conf: float, classes: Sequence[int] | None = None, max_det: int = 300
) -> list[Tensor]:
    """Rows of an NMS-free head that are sure enough.

    Args:
        rows: (B, K, 6 + extra) as `top_k_end_to_end` gives them, best first.
        conf: a score must be above it.
        classes: only these classes; None for all.
        max_det: rows per image at most.

    Returns:
        Per image (n, 6 + extra), in the order given.
    """
    wanted = rows[..., 4] > conf  # (B, K)
    if classes is not None:
        wanted &= torch.isin(rows[..., 5], torch.as_tensor(list(classes), device=rows.device, dtype=rows.dtype))
    return [image[mask][:max_det] for image, mask in zip(rows, wanted, strict=True)]


def top_k_end_to_end(decoded: Tensor, nc: int, *, max_det: int = 300, agnostic: bool = False) -> Tensor:
    """The best (anchor, class) pairs of an NMS-free head, in two steps that keep the tensors small.

    Args:
        decoded: (B, A, 4 + nc + extra): boxes, scores after the sigmoid, then anything else.
        nc: number of classes.
        max_det: rows wanted; fewer if there are fewer anchors.
        agnostic: only the best class of each anchor, so that no anchor appears twice.

    Returns:
        (B, K, 6 + extra), K = min(max_det, A): box, score, class, extra; best score first.
    """
    boxes, scores, extra = decoded[..., :4], decoded[..., 4 : 4 + nc], decoded[..., 4 + nc :]
    count = min(max_det, decoded.shape[1])
    best, best_class = scores.max(dim=-1)  # (B, A)
    if agnostic:
        score, anchor = best.topk(count, dim=1)  # (B, K)
        class_ = best_class.gather(1, anchor)
    else:
        anchor = best.topk(count, dim=1).indices
        likely = scores.gather(1, anchor[..., None].expand(-1, -1, nc))  # (B, K, nc)
        score, flat = likely.flatten(1).topk(count, dim=1)
        anchor, class_ = anchor.gather(1, flat // nc), flat % nc
    others = torch.cat([boxes, extra], dim=-1)
    others = others.gather(1, anchor[..., None].expand(-1, -1, others.shape[-1]))
    return torch.cat([others[..., :4], score[..., None], class_[..., None].to(score.dtype), others[..., 4:]], dim=-1)


def _keep_sorted(boxes: Tensor, groups: Tensor | None, iou: float, max_keep: int) -> Tensor:
    """Positions kept of boxes (N, 4) that come best first.

    Works through the boxes a block at a time, so that memory does not grow with N², and stops at `max_keep`: a later
    box cannot change what happened to a better one.
    """
    kept = torch.zeros(0, dtype=torch.long, device=boxes.device)
    for start in range(0, len(boxes), BLOCK):
        block = torch.arange(start, min(start + BLOCK, len(boxes)), device=boxes.device)
        if len(kept):
            block = block[~_suppresses(boxes, groups, kept, block, iou).any(0)]
        suppresses = _suppresses(boxes, groups, block, block, iou).triu_(diagonal=1)  # (n, n): a row, a later column
        kept = torch.cat([kept, block[_settle(suppresses)]])
        if len(kept) >= max_keep:
            break
    return kept[:max_keep]


def _suppresses(boxes: Tensor, groups: Tensor | None, first: Tensor, second: Tensor, iou: float) -> Tensor:
    """(n, m) whether a box of `first`, if kept, drops a box of `second`."""
    overlaps = pairwise_iou(boxes[first], boxes[second]) > iou
    return overlaps if groups is None else overlaps & (groups[first, None] == groups[second])


def _settle(suppresses: Tensor) -> Tensor:
    """(n,) who survives: nobody who survives suppresses them.

    Repeats until nothing changes. Each round settles at least one more box of every chain, so this ends with the
    greedy answer, after as many rounds as the longest chain of "A drops B, so C stays, so D goes" has links: a handful.

    Source: Zheng et al., Enhancing Geometric Factors (Cluster-NMS), arXiv:2005.03572.
    """
    survives = torch.ones(len(suppresses), dtype=torch.bool, device=suppresses.device)
    while True:
        settled = ~(suppresses & survives[:, None]).any(0)
        if torch.equal(settled, survives):
            return survives
        survives = settled
