"""Target rows of a batch → one padded table per image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.errors import DataError


def send_and_keep(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on the device that remembers where it came from, so that `on_host` need not wait for the device."""
    sent = tensor.to(device, non_blocking=True)
    if sent is not tensor:
        sent.kept_on_host = (tensor, sent._version)  # type: ignore[attr-defined]
    return sent


def on_host(tensor: Tensor) -> Tensor:
    """The tensor on the CPU. Waits for the device, unless `send_and_keep` made it and nobody wrote to it since."""
    kept, version = getattr(tensor, "kept_on_host", (None, None))
    return tensor.cpu() if kept is None or version != tensor._version else kept


@dataclass(frozen=True, slots=True)
class TargetRows:
    """The T targets of a batch on the host, image by image; rows of one image keep their order."""

    image: Tensor  # (T,) int64
    labels: Tensor  # (T,) int64
    boxes: Tensor  # (T, 4) float32 or float64, xywh in [0, 1]
    counts: list[int]  # targets of each of the B images

    def slots(self) -> Tensor:
        """(T,) int64: the how manieth of its image each target is."""
        counts = torch.tensor(self.counts)
        return torch.arange(len(self.image)) - (counts.cumsum(0) - counts)[self.image]

    def padded(self) -> tuple[Tensor, Tensor]:
        """(B, M) labels and (B, M, 4) boxes, M the most targets of one image; unused places are 0."""
        shape = (len(self.counts), max(self.counts, default=0))
        labels, boxes = self.labels.new_zeros(shape), self.boxes.new_zeros(*shape, 4)
        places = (self.image, self.slots())
        labels[places], boxes[places] = self.labels, self.boxes
        return labels, boxes


def target_rows(batch: Mapping[str, Any], batch_size: int, nc: int) -> TargetRows:
    """The targets of a batch, sorted by image. Boxes that are not finite are left out.

    Args:
        batch: `batch_idx` (N,), `cls` (N,) or (N, 1), `bboxes` (N, 4) xywh divided by the image size; in any order.
        batch_size: B, number of images.
        nc: number of classes.

    Raises:
        DataError: a row names an image that is not in the batch, or a class that the model does not know.
    """
    image, labels = on_host(batch["batch_idx"]).view(-1).long(), on_host(batch["cls"]).view(-1).long()
    boxes = on_host(batch["bboxes"]).view(-1, 4)
    boxes = boxes if boxes.dtype == torch.float64 else boxes.float()
    kept = boxes.isfinite().all(-1)
    order = image[kept].argsort(stable=True)
    image, labels, boxes = image[kept][order], labels[kept][order], boxes[kept][order]
    if len(image) and (int(image[0]) < 0 or int(image[-1]) >= batch_size):
        raise DataError(_wrong_images(image, batch_size))
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= nc):
        raise DataError(wrong_classes(labels, nc))
    return TargetRows(image, labels, boxes, torch.bincount(image, minlength=batch_size).tolist())


def wrong_classes(labels: Tensor, nc: int) -> str:
    """What to say of classes that the model does not know."""
    return (
        f"the batch has targets of class {int(labels.min())} to {int(labels.max())}, but the model knows {nc} classes "
        f"(0 to {nc - 1}). Build the model with the class count of the data."
    )


def _wrong_images(image: Tensor, batch_size: int) -> str:
    return (
        f"batch_idx runs from {int(image.min())} to {int(image.max())}, but the batch has {batch_size} images "
        f"(0 to {batch_size - 1}). Number the target rows by their position in the batch, as collate_fn does."
    )


def pad_targets(rows: Tensor, batch_size: int, scale: Tensor) -> Tensor:
    """Sort target rows into images.

    Args:
        rows: (N, 6) image index, class, then xywh divided by the image size. In any order; rows of one image keep
            theirs. Keep them on the host: the size of the result depends on the values.
        batch_size: B, number of images.
        scale: (4,) what to multiply the boxes by: W, H, W, H in pixels.

    Returns:
        (B, M, 5) class and xyxy in pixels; M is the largest number of targets of one image. Unused rows are zero.

    Raises:
        DataError: if a row names an image that is not in the batch.
    """
    image = rows[:, 0].long()  # (N,)
    if len(rows) and (int(image.min()) < 0 or int(image.max()) >= batch_size):
        raise DataError(_wrong_images(image, batch_size))
    boxes = rows[:, 2:6] * scale
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return pad_rows(torch.cat([rows[:, 1:2], centre - half, centre + half], dim=1), image, batch_size)


def pad_rows(rows: Tensor, image: Tensor, batch_size: int) -> Tensor:
    """Sort rows into images, in the order that `pad_targets` gives them.

    Args:
        rows: (N, …) one for each target.
        image: (N,) int64 which image of the batch it belongs to.
        batch_size: B, number of images.

    Returns:
        (B, M, …); M is the largest number of targets of one image. Unused rows are zero.
    """
    counts = torch.zeros(batch_size, dtype=torch.long, device=rows.device)
    counts.index_add_(0, image, torch.ones_like(image))
    most = int(counts.max()) if len(rows) else 0
    padded = rows.new_zeros(batch_size, most, *rows.shape[1:])
    order = image.argsort(stable=True)  # rows need not come grouped by image
    image = image[order]
    first_row = counts.cumsum(0) - counts  # (B,)
    slot = torch.arange(len(rows), device=rows.device) - first_row[image]
    padded[image, slot] = rows[order]
    return padded
