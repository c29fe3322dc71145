"""Several processes that train one network together: how many, the group they form, and what they must agree on.

Each rank takes its part of every batch, gradients are averaged over the ranks, and so all ranks make the same
step. Samples are a function of (seed, epoch, index), and batch b of all ranks together holds the images that batch b
of a single process would (data/sampler.py). What ranks tell each other in words is in backends/ranks.py; how they are
started is in launch.py.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import inspect
import logging
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from sightline.backends import ranks
from sightline.backends.pulse import PULSE
from sightline.config.settings import Settings
from sightline.config.support import device_numbers
from sightline.errors import SettingValueError
from sightline.log import LOGGER

# Rank 0 may decode a large data set into its cache while the others wait; who hangs is the watchdog's business.
TIMEOUT = datetime.timedelta(hours=3)


_DDP_ARGUMENTS = inspect.signature(DistributedDataParallel).parameters


def wanted(settings: Settings) -> int:
    """How many processes the settings ask for; checked against the machine and against a launcher around us.

    Raises:
        SettingValueError: with what fits together.
    """
    devices = device_numbers(settings.device)
    asked = settings.nproc or max(len(devices), 1)
    if settings.nproc and settings.nproc > 1:
        if len(devices) > 1 and settings.nproc != len(devices):
            raise SettingValueError(
                f"nproc={settings.nproc} and device={settings.device} do not fit: every GPU gets one process. "
                "Leave nproc out."
            )
        if len(devices) <= 1 and str(settings.device) != "cpu":
            raise SettingValueError(
                f"nproc={settings.nproc} is for processes on the CPU, but device={settings.device}. Use device=cpu "
                f"nproc={settings.nproc}, or name the GPUs: device={','.join(map(str, range(settings.nproc)))}"
            )
    running = ranks.launched()
    if running:
        if (settings.nproc or len(devices) > 1) and asked != running:
            named = f"nproc={settings.nproc}" if settings.nproc else f"device={settings.device}"
            raise SettingValueError(
                f"{named} asks for {asked} processes, but the launcher started {running} (WORLD_SIZE={running}). "
                f"Leave it out, or start {asked}: torchrun --nproc-per-node={asked}"
            )
        if running > 1 and len(devices) == 1:
            raise SettingValueError(
                f"device={settings.device} puts {running} processes (WORLD_SIZE={running}) on one GPU. Leave device "
                "out, so that each takes its own, or use device=cpu."
            )
        asked = running
    _check_batch(settings, asked)
    return asked


def _check_batch(settings: Settings, processes: int) -> None:
    batch = settings.batch
    if batch >= 1 and batch % processes:  # one that is to be found will be a multiple
        below, above = int(batch // processes * processes), int((batch // processes + 1) * processes)
        near = f"batch={above}" if below < processes else f"batch={below} or batch={above}"
        raise SettingValueError(
            f"batch={batch} cannot be divided among {processes} processes; it is the batch of all together. Use {near}."
        )


def must_launch(settings: Settings) -> bool:
    """Whether this process is to start the ranks, and is none itself."""
    return not ranks.launched() and wanted(settings) > 1


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Be one of the ranks that a launcher started. Does nothing for a single process."""
    if ranks.launched() <= 1 or dist.is_initialized():  # a script that has made the group itself keeps it
        with _quiet_unless_main():
            yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Objects and flags go over the CPU even where gradients go from GPU to GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    # It stays for a second training of the same script: a second group would find the addresses of the first, and hang.
    atexit.register(_leave)
    with _quiet_unless_main():
        yield


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def _quiet_unless_main() -> Iterator[None]:
    """What every rank has to say, rank 0 says."""
    level = LOGGER.level
    if not ranks.is_main():
        LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


def wrap(model: nn.Module) -> DistributedDataParallel:
    """The model with the weights of rank 0 on all ranks, and gradients averaged over them.

    In the trainer's own step `average_gradients` does that; DDP itself where somebody calls `backward` outside of it.
    Frozen parameters are made known, too: DDP averages only what had a gradient when it was wrapped, so a layer that
    thaws later would go its own way on every rank. Parameters without part in a loss (frozen ones, a branch without
    objects) are found anew in every step.
    """
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad = True
    # Buffers are BatchNorm's statistics, see average_statistics. The argument has got another name in torch 2.12.
    keep_buffers = "forward_sync_buffers" if "forward_sync_buffers" in _DDP_ARGUMENTS else "broadcast_buffers"
    wrapped = DistributedDataParallel(model, find_unused_parameters=True, **{keep_buffers: False})
    for parameter in frozen:
        parameter.requires_grad = False
    return wrapped


@torch.no_grad()
def average_gradients(model: nn.Module) -> None:
    """The gradients of this batch averaged over the ranks, when each has its own complete.

    A parameter that had a part in the loss of one rank only (a branch without objects on the others) has a gradient on
    all of them afterwards. DDP could do this during the backward pass; why it does not: docs/decisions/0146.
    """
    if ranks.count() == 1:
        return
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    used = ranks.highest(*(int(parameter.grad is not None) for parameter in parameters))
    by_type: dict[torch.dtype, list[torch.Tensor]] = {}
    for parameter, is_used in zip(parameters, used, strict=True):
        if is_used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            by_type.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in by_type.values():
        joined = torch.cat([gradient.reshape(-1) for gradient in gradients])
        with PULSE.waiting():
            dist.all_reduce(joined)
        pieces = (joined / ranks.count()).split([gradient.numel() for gradient in gradients])
        shaped = [piece.view(gradient.shape) for piece, gradient in zip(pieces, gradients, strict=True)]
        torch._foreach_copy_(gradients, shaped)


@torch.no_grad()
def average_statistics(*models: nn.Module) -> None:
    """BatchNorm's running statistics, which every rank has of its own part of the batches, averaged over the ranks."""
    if ranks.count() == 1:
        return
    buffers = [
        buffer
        for model in models
        for module in model.modules()
        if isinstance(module, _BatchNorm)
        for buffer in (module.running_mean, module.running_var)
        if buffer is not None
    ]
    if not buffers:
        return
    joined = torch.cat([buffer.reshape(-1).float() for buffer in buffers])
    dist.all_reduce(joined)
    for buffer, value in zip(buffers, (joined / ranks.count()).split([b.numel() for b in buffers]), strict=True):
        buffer.copy_(value.view_as(buffer))
