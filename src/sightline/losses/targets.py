"""Target rows of a batch → one padded table per image."""

from __future__ import annotations

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
        raise DataError(
            f"batch_idx runs from {int(image.min())} to {int(image.max())}, but the batch has {batch_size} images "
            f"(0 to {batch_size - 1}). Number the target rows by their position in the batch, as collate_fn does."
        )
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
