"""From the decoded output to the boxes of each image: the one step that validation, prediction and export share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.ops.boxes import xywhn_to_xyxy
from sightline.ops.nms import non_max_suppression, select_end_to_end


def rows_in_pixels(decoded: Tensor, shape_hw: tuple[int, int]) -> Tensor:
    """Rows of a head that gives shares of the image, in the form of the others.

    Args:
        decoded: (B, K, 6) x, y, width, height in [0, 1], score, class.
        shape_hw: height and width of the network's input, pixels.

    Returns:
        (B, K, 6) x1, y1, x2, y2 in pixels of the network's input, score, class, in float32 at least: half precision
        has too few digits for pixels.
    """
    decoded = decoded.to(torch.promote_types(decoded.dtype, torch.float32))
    return torch.cat([xywhn_to_xyxy(decoded[..., :4], shape_hw), decoded[..., 4:]], -1)


def detections(
    decoded: Tensor,
    *,
    end2end: bool,
    nc: int,
    conf: float,
    iou: float = 0.7,
    classes: Sequence[int] | None = None,
    agnostic: bool = False,
    multi_label: bool = False,
    max_det: int = 300,
) -> list[Tensor]:
    """Rows (x1, y1, x2, y2, score, class, extra…) of every image, pixels of the network input, best score first.

    Args:
        decoded: (B, K, 6 + extra) with `end2end`, else (B, 4 + nc + extra, A).
        end2end: the NMS-free branch made it.
        nc: number of classes.
        conf: scores must be above it.
        iou: NMS drops a box that overlaps a better one by more. Not read with `end2end`, as are the next two but one.
        classes: only these; None for all.
        agnostic: boxes of different classes suppress each other, too.
        multi_label: a row for every class above `conf`, as measuring recall wants; prediction shows the best alone.
        max_det: rows of one image at most.
    """
    if end2end:
        # A few hundred rows: one copy to the host is cheaper than a wait for each image there.
        return select_end_to_end(decoded.float().cpu(), conf=conf, classes=classes, max_det=max_det)
    return non_max_suppression(
        decoded,
        nc=nc,
        conf=conf,
        iou=iou,
        classes=classes,
        agnostic=agnostic,
        multi_label=multi_label,
        max_det=max_det,
    )
