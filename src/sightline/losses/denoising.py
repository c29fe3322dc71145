"""Noisy copies of the targets as extra queries of a decoder, in groups (`structures/denoising.py` draws them).

All is made on the host, where the targets are, and sent once.

Source: Zhang et al., DINO, arXiv:2203.03605, section 3.3 (contrastive denoising); Li et al., DN-DETR, arXiv:2203.01305.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.losses.assign.candidates import send
from sightline.losses.targets import TargetRows
from sightline.ops.boxes import inverse_sigmoid, xywh_to_xyxy, xyxy_to_xywh
from sightline.structures.denoising import DenoisingQueries

EPS = 1e-6  # nearest to the edge of the image that a noisy box's coordinate is told apart from it


def make_denoising(
    targets: TargetRows,
    *,
    nc: int,
    most: int,
    device: torch.device,
    label_noise: float = 0.5,
    box_noise: float = 1.0,
) -> DenoisingQueries | None:
    """As many groups as fit.

    Args:
        targets: of the batch.
        nc: number of classes.
        most: noisy queries of one kind (positive or negative) an image may get. Of an image with more targets a part
            is taken, another one each time.
        device: where the queries go.
        label_noise: twice the share of labels that are replaced by any.
        box_noise: how far the corners of positives move, in half sizes of their box; those of negatives go on from
            there up to twice as far. 0 leaves the boxes as they are, without the inverse of the sigmoid.

    Returns:
        None if there is nothing to copy. Drawn from torch's global generator.
    """
    size = min(max(targets.counts, default=0), most)
    if size == 0:
        return None
    groups = most // size
    rows, slot = _chosen(targets, size)
    image = targets.image[rows]
    blocks = torch.arange(2 * groups).repeat_interleave(len(rows))  # (n,) copies lie block by block
    labels, boxes = targets.labels[rows].repeat(2 * groups), targets.boxes[rows].repeat(2 * groups, 1)
    if label_noise > 0:
        replaced = (torch.rand(len(labels)) < label_noise / 2).nonzero().view(-1)
        labels[replaced] = torch.randint(0, nc, replaced.shape)
    if box_noise > 0:
        boxes = _moved(boxes, blocks % 2 == 1, box_noise)

    places = image.repeat(2 * groups), slot.repeat(2 * groups) + size * blocks
    shape = (len(targets.counts), 2 * groups * size)
    all_labels, all_boxes = labels.new_full(shape, -1), boxes.new_zeros(*shape, 4)
    all_labels[places], all_boxes[places] = labels, boxes
    positive = 2 * size * torch.arange(groups).repeat_interleave(len(rows))
    return DenoisingQueries(
        labels=send(all_labels, device),
        boxes=send(all_boxes, device),
        groups=groups,
        group_size=size,
        image=image.repeat(groups),
        query=slot.repeat(groups) + positive,
        target=rows.repeat(groups),
    )


def _chosen(targets: TargetRows, size: int) -> tuple[Tensor, Tensor]:
    """Rows of the targets that are copied, in their order, and the slot of each within its image."""
    if max(targets.counts) <= size:
        return torch.arange(len(targets.image)), targets.slots()
    rows, slots, first = [], [], 0
    for count in targets.counts:
        kept = torch.randperm(count)[:size].sort().values
        rows.append(kept + first)
        slots.append(torch.arange(len(kept)))
        first += count
    return torch.cat(rows), torch.cat(slots)


def _moved(boxes: Tensor, negative: Tensor, noise: float) -> Tensor:
    """(n, 4) xywh in [0, 1] → the same before the sigmoid, each side moved inwards or outwards."""
    half = boxes[:, 2:] / 2 * noise
    sign = torch.randint_like(boxes, 0, 2) * 2 - 1
    distance = torch.rand_like(boxes) + negative[:, None]
    corners = xywh_to_xyxy(boxes) + sign * distance * half.repeat(1, 2)
    return inverse_sigmoid(xyxy_to_xywh(corners.clamp(0, 1)), EPS)
