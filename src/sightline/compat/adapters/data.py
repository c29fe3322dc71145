"""Data sets and loaders, as a trainer's `build_dataset` and `get_dataloader` call them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.distributed

from sightline.config.settings import Settings
from sightline.data import loader
from sightline.data.dataset import DetectionDataset
from sightline.data.spec import DatasetSpec, load_dataset_spec
from sightline.errors import SettingValueError


def build_yolo_dataset(
    cfg: Settings,
    img_path: Any,
    batch: int,
    data: Mapping[str, Any],
    mode: str = "train",
    rect: bool = False,
    stride: int = 32,
    multi_modal: bool = False,
) -> DetectionDataset:
    """The samples of one split.

    Args:
        cfg: settings of the run.
        img_path: a folder, a list, or what `data` names for a split.
        batch: images per batch, for rectangular batches.
        data: the data set as a dict, as a trainer holds it.
        mode: "train" augments; "val" does not.
        rect: rectangular batches, also if `cfg` does not ask for them.
        stride: of the network, pixels.
        multi_modal: not here: refused.

    Raises:
        SettingValueError: `multi_modal`. DataError, MissingFileError: as `sightline.data.loader.build_dataset`.
    """
    if multi_modal:
        raise SettingValueError("build_yolo_dataset: multi_modal=True is not in sightline. Leave it out.")
    return loader.build_dataset(
        cfg,
        DatasetSpec.from_dict(data),
        mode if img_path == data.get(mode) else img_path,  # by name, so that `fraction` applies
        mode=mode,
        batch_size=batch,
        stride=stride,
        task=cfg.task,
        rect=bool(cfg.rect or rect),
    )


def build_dataloader(
    dataset: DetectionDataset,
    batch: int,
    workers: int,
    shuffle: bool = True,
    rank: int = -1,
    drop_last: bool = False,
    pin_memory: bool = True,
) -> loader.Loader:
    """Batches of a data set, of this process's share where there are several."""
    several = rank >= 0 and torch.distributed.is_available() and torch.distributed.is_initialized()
    return loader.build_loader(
        dataset,
        batch,
        shuffle=shuffle,
        workers=workers,
        seed=dataset.seed,
        rank=rank if several else 0,
        world_size=torch.distributed.get_world_size() if several else 1,
        drop_last=drop_last,
        pin_memory=pin_memory and torch.cuda.is_available(),
    )


def check_det_dataset(dataset: Any, autodownload: bool = True) -> dict[str, Any]:
    """A data set as a dict: path, train, val, test, names, nc, …

    Raises:
        DataError, MissingFileError: it cannot be used.
    """
    return load_dataset_spec(dataset, split="val", autodownload=autodownload).as_dict()
