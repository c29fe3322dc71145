"""Which (target, anchor) pairs may be assigned at all: the anchor lies inside the target.

Anchors of a level form a grid, so those inside a box are a rectangle of cells. Listing these rectangles gives every
pair without testing each anchor against each target: 16 images of 640 px with 100 targets have 175 thousand pairs, a
table of all combinations 13 million entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# An anchor must be further inside than this, in pixels.
INSIDE = 1e-9
# Cells of slack when a rectangle is cut out, so that rounding never loses an anchor; the exact test follows.
SLACK = 0.01


@dataclass(frozen=True)
class CandidatePairs:
    """P pairs, ordered by target and, within one, by anchor.

    Targets are rows of the padded table, counted through: image × M + slot.
    """

    target: Tensor  # (P,) int64 in [0, B × M)
    anchor: Tensor  # (P,) int64 in [0, A)
    image: Tensor  # (P,) int64 in [0, B)
    place: Tensor  # (P,) int64 in [0, B × A): image and anchor in one number
    inside: Tensor | None  # (P,) bool, False for entries that do not count; None: all do (see lengths_are_free)
    images: int  # B
    slots: int  # M
    anchors: int  # A
    valid_targets: int  # targets that are no padding: bounds the number of positives without asking the device


def enlarge_small(boxes: Tensor, floor: float) -> Tensor:
    """Raise each side below `floor` to it, about the same centre.

    Without this, a target smaller than a cell may contain no anchor point and is never learnt.

    Args:
        boxes: (..., 4) xyxy, pixels.
        floor: the smallest side, pixels.

    Returns:
        (..., 4) xyxy.
    """
    near, far = boxes[..., :2], boxes[..., 2:]
    centre, small = (near + far) / 2, far - near < floor
    return torch.cat(
        [torch.where(small, centre - floor / 2, near), torch.where(small, centre + floor / 2, far)], dim=-1
    )


def list_on_grid(
    boxes: Tensor,
    valid: Tensor,
    points: Tensor,
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[float],
) -> CandidatePairs:
    """Pairs for anchors that are the centres of the cells of a pyramid (`ops.anchors.make_anchors`).

    Args:
        boxes: (B, M, 4) xyxy, pixels. If they lie on the host while `points` lie on a GPU, nothing waits for the GPU;
            if they lie on the GPU, one number is read back.
        valid: (B, M) bool, False for padding; where the boxes lie.
        points: (A, 2) x, y, pixels, on the device that will work on the pairs.
        shapes: (height, width) of each level, in the order of the points.
        strides: pixels per cell of each level.
    """
    images, slots, _ = boxes.shape
    flat, used = boxes.reshape(-1, 4), valid.reshape(-1)
    sizes = torch.tensor([(width, height) for height, width in shapes], device=boxes.device)  # (L, 2)
    cell = torch.tensor(strides, dtype=boxes.dtype, device=boxes.device)[:, None]  # (L, 1)
    clean = flat.masked_fill(~used[:, None], 0).nan_to_num(0)[:, None]  # (T, 1, 4)
    last_cell = sizes - 1
    # The centre of cell i lies at (i + 0.5) × stride.
    first = torch.minimum((clean[..., :2] / cell - 0.5 - SLACK).ceil().clamp(min=0), sizes.to(cell.dtype)).long()
    last = torch.minimum((clean[..., 2:] / cell - 0.5 + SLACK).floor().clamp(min=-1), last_cell.to(cell.dtype)).long()
    extent = (last - first + 1).clamp_(min=0)  # (T, L, 2) columns, rows
    counts = extent.prod(-1) * used[:, None]  # (T, L)
    # The one wait for the GPU of an assignment, and only if the targets lie there: the lists need a length.
    total, valid_targets = torch.stack([counts.sum(), used.sum()]).tolist()

    device = points.device
    areas = sizes.prod(-1)  # (L,)
    corner = (areas.cumsum(0) - areas) + first[..., 1] * sizes[:, 0] + first[..., 0]  # (T, L) first anchor
    earlier = counts.flatten().cumsum(0).view_as(counts) - counts  # (T, L) pairs listed before
    row_length = sizes[:, 0].expand_as(counts)
    target = torch.arange(len(flat), device=boxes.device)[:, None].expand_as(counts)
    rectangles = torch.stack([counts, earlier, extent[..., 0], corner, row_length, target], dim=-1)
    rectangles = send(rectangles.flatten(0, 1), device)  # (T × L, 6)
    # index_select is written out here and in the assigner: on a CPU it is five times as fast as indexing.
    numbers = torch.arange(len(rectangles), device=device)
    rectangle = torch.repeat_interleave(numbers, rectangles[:, 0], output_size=total)  # (P,)
    earlier, columns, corner, row_length, target = rectangles[:, 1:].index_select(0, rectangle).unbind(-1)
    within = torch.arange(total, device=device) - earlier
    row = torch.div(within, columns, rounding_mode="floor")
    anchor = corner + row * row_length + (within - row * columns)
    inside = _is_inside(points.index_select(0, anchor), send(flat, device).index_select(0, target))
    return _pairs(target, anchor, inside, images, slots, len(points), valid_targets)


def list_anywhere(boxes: Tensor, valid: Tensor, points: Tensor) -> CandidatePairs:
    """Pairs for anchor points that form no grid: every point is tested against every valid target.

    Args and result as `list_on_grid`.
    """
    images, slots, _ = boxes.shape
    rows = valid.reshape(-1).nonzero().squeeze(1)  # (N,)
    inside = _is_inside(points, send(boxes.reshape(-1, 4)[rows, None], points.device))  # (N, A)
    row, anchor = inside.nonzero(as_tuple=True)
    return _pairs(send(rows, points.device)[row], anchor, None, images, slots, len(points), len(rows))


def grid_shapes(points: Tensor, strides: Sequence[float]) -> list[tuple[int, int]] | None:
    """The (height, width) of each level if the points are those of a pyramid with these strides, else None.

    Args:
        points: (A, 2) x, y, pixels. Read on the host.
        strides: pixels per cell of each level.
    """
    shapes, start, host = [], 0, points.detach().cpu()
    for stride in strides:
        rest = host[start:]
        if not len(rest):
            return None
        width = int((rest[:, 1] == rest[0, 1]).long().cumprod(0).sum())
        column = rest[::width, 1]  # y of each row, on into the next level
        height = int((column[1:] > column[:-1]).long().cumprod(0).sum()) + 1
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        grid = (torch.stack([x, y], dim=-1).view(-1, 2) + 0.5) * stride
        if len(rest) < len(grid) or not torch.equal(rest[: len(grid)], grid.to(rest.dtype)):
            return None
        shapes.append((height, width))
        start += height * width
    return shapes if start == len(host) else None


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. From the host to a GPU it goes by way of pinned memory, so that nobody waits."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def lengths_are_free(tensor: Tensor) -> bool:
    """Whether a list made from the values of this tensor may be as long as it needs to be.

    On a GPU its length would have to be read back, and the host would wait until all work before it is done. There
    lists keep a length that is known beforehand, and a mask says which entries count.
    """
    return not tensor.is_cuda


def _is_inside(points: Tensor, boxes: Tensor) -> Tensor:
    """(...) whether points (..., 2) lie inside boxes (..., 4), the border excluded."""
    x, y = points.unbind(-1)
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x - x1 > INSIDE) & (y - y1 > INSIDE) & (x2 - x > INSIDE) & (y2 - y > INSIDE)


def _pairs(
    target: Tensor, anchor: Tensor, inside: Tensor | None, images: int, slots: int, anchors: int, valid_targets: int
) -> CandidatePairs:
    if inside is not None and lengths_are_free(inside):
        kept = inside.nonzero().squeeze(1)
        target, anchor, inside = target.index_select(0, kept), anchor.index_select(0, kept), None
    image = torch.div(target, max(slots, 1), rounding_mode="floor")
    place = image * anchors + anchor
    return CandidatePairs(target, anchor, image, place, inside, images, slots, anchors, valid_targets)
