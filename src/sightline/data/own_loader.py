"""Loaders of a user's own, which a trainer's `get_dataloader` may return in the place of ours."""

from __future__ import annotations

from typing import Any

from sightline.data.dataset import DetectionDataset
from sightline.data.loader import Loader
from sightline.data.sampler import EpochBatches
from sightline.errors import TrainingError
from sightline.log import LOGGER


def check_loader(loader: Any) -> None:
    """Refuse what a run cannot work with, and warn of what would quietly train on less.

    Raises:
        TrainingError: the object has no length, no `dataset`, or nothing to iterate over.
    """
    lacking = [name for name in ("__len__", "__iter__", "dataset") if not hasattr(loader, name)]
    if lacking:
        raise TrainingError(
            f"get_dataloader() returned {type(loader).__name__}, which has no {' and no '.join(lacking)}. Return a "
            "torch DataLoader, or anything with a length, a `dataset` and batches to iterate over."
        )
    if getattr(loader, "persistent_workers", False) and isinstance(loader.dataset, DetectionDataset):
        LOGGER.warning(
            f"The {type(loader).__name__} of get_dataloader() has persistent_workers=True: its workers keep a copy of "
            "the data set as it was in the first epoch, so every epoch shows the same augmented images. Leave it out."
        )


def begin_epoch(
    loader: Any,
    epoch: int,
    *,
    mixing: bool,
    start: int = 0,
    augmentation: tuple[tuple[str, float], ...] = (),
) -> None:
    """Tell a loader, ours or a user's, and what it draws from, which epoch comes. Only ours begins with batch `start`;
    see `passes_over`."""
    if isinstance(loader, Loader):
        loader.set_epoch(epoch, mixing, start, augmentation)
        return
    for part in _parts(loader):
        if isinstance(part, EpochBatches | DetectionDataset):
            part.set_epoch(epoch, mixing, augmentation=augmentation)
        elif hasattr(part, "set_epoch"):
            part.set_epoch(epoch)


def passes_over(loader: Any) -> bool:
    """Whether it leaves out the first batches of an epoch by itself; of others they must be taken and dropped."""
    return isinstance(loader, Loader)


def passes_augmentation_on(loader: Any) -> bool:
    """Whether what `begin_epoch` says of the augmentation changes the samples."""
    return any(
        isinstance(part, DetectionDataset) and hasattr(part.pipeline, "changed")  # a user may have put another there
        for part in _parts(loader)
    )


def _parts(loader: Any) -> list[Any]:
    return [loader, *(getattr(loader, name, None) for name in ("sampler", "batch_sampler", "dataset"))]
