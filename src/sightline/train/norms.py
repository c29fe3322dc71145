"""Which normalisation a network trains with: the settings `norm` and `sync_bn`, put into the network's layers.

The layers themselves are in `nn/group_norm.py` and `nn/sync_batch_norm.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sightline.errors import SettingValueError
from sightline.nn import group_norm, sync_batch_norm

if TYPE_CHECKING:
    from sightline.config.settings import Settings
    from sightline.train.trainer import BaseTrainer

FEW_IMAGES = 16  # on a rank: statistics of fewer are noisy enough for the reduction to be worth its time


def put_in_force(trainer: BaseTrainer) -> None:
    """The layers that `norm` and `sync_bn` ask for; before DDP, optimizer and EMA take the network as it is."""
    trainer.in_force |= prepare(
        trainer.model,
        trainer.args,
        world_size=trainer.world_size,
        images_per_rank=trainer.batch_size // trainer.world_size,
        device=trainer.device,
    )


def prepare(
    model: Any, settings: Settings, *, world_size: int, images_per_rank: int, device: torch.device
) -> dict[str, str]:
    """Exchange the norms of a network as the settings say, in place, before optimizer, averages and DDP are made.

    Args:
        model: on its device; may hold `nn.SyncBatchNorm` that a user put in.
        world_size: ranks of the run.
        images_per_rank: of a batch.

    Returns:
        Setting → what it does in this run, for the summary; empty where nothing was asked for and nothing done.

    Raises:
        SettingValueError: `norm` cannot be had for this network.
    """
    lines = {}
    if settings.norm is not None:
        lines["norm"] = _set_norm(model, settings.norm)
    by_user = sum(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    if by_user and device.type == "cpu":
        sync_batch_norm.convert_foreign(model)
    line = _synchronise(model, settings, world_size, images_per_rank)
    if by_user:
        line = f"{line}; {by_user} layers were made nn.SyncBatchNorm by your code and stay synchronised"
    if by_user or settings.is_user_set("sync_bn") or line.startswith("on"):
        lines["sync_bn"] = line
    return lines


def _set_norm(model: Any, norm: str) -> str:
    if norm == "bn":
        grouped = sum(isinstance(module, nn.GroupNorm) for module in model.modules())
        if grouped:
            raise SettingValueError(
                f"norm=bn, but {grouped} layers of this network are GroupNorm, which has no statistics that BatchNorm "
                "could go on with. Start from a description with BatchNorm, or leave norm out."
            )
        return "BatchNorm, as the network has it"
    if not isinstance(getattr(model, "yaml", None), dict):
        raise SettingValueError(
            f"norm={norm}: {type(model).__name__} is not made from a description (it has no `yaml`), so a checkpoint "
            "could not say that its norms were exchanged. Build it with GroupNorm in the first place."
        )
    before = batch_norms(model)
    group_norm.convert(model)
    # What checkpoints are built from: without this, best.pt would come back with BatchNorm.
    model.yaml = {**model.yaml, "norm": norm}
    if hasattr(model, "spec"):
        model.spec = replace(model.spec, extra={**model.spec.extra, "norm": norm})
    return f"GroupNorm in the place of {before} BatchNorm layers" if before else "GroupNorm, as the network has it"


def _synchronise(model: nn.Module, settings: Settings, world_size: int, images_per_rank: int) -> str:
    """Make BatchNorm reduce over ranks where the settings ask for it; says what holds."""
    if settings.sync_bn is False:
        return "off: each rank normalises with its own images"
    if world_size == 1:
        return "off: one process has all images of a batch"
    if settings.sync_bn == "auto" and images_per_rank > FEW_IMAGES:
        return f"off: {images_per_rank} images a rank are enough (auto: up to {FEW_IMAGES})"
    count = batch_norms(model)
    if not count:
        return "off: the network has no BatchNorm"
    sync_batch_norm.convert(model)
    return f"on: {count} BatchNorm layers normalise with the images of all {world_size} ranks"


def batch_norms(model: nn.Module) -> int:
    """How many BatchNorm layers a network has, synchronised or not."""
    return sum(isinstance(module, _BatchNorm) for module in model.modules())
