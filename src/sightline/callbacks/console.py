"""What a person sees of a run: one live line an epoch on a terminal, one plain line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import torch

import sightline
from sightline.callbacks.base import Callback
from sightline.log import LOGGER

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

REFRESH_SECONDS = 1.0  # reading the losses waits for the device, so it happens this often and not every batch


class Console(Callback):
    """Reports progress, never changes the run."""

    def __init__(self) -> None:
        self.live: Any = None  # rich.progress.Progress on a terminal
        self.task: Any = None
        self.epoch_start = 0.0
        self.last_refresh = 0.0
        self.images = 0
        self.header: str | None = None

    def on_pretrain_routine_end(self, trainer: BaseTrainer) -> None:
        """What runs, on what, with which settings, and where the results go."""
        precision = trainer.precision
        device = torch.cuda.get_device_name(trainer.device) if trainer.device.type == "cuda" else trainer.device
        LOGGER.info(
            f"sightline {sightline.__version__}, torch {torch.__version__}, {device}, "
            f"{precision.name} ({precision.reason})"
        )
        for name, (value, origin) in trainer.args.changed().items():
            LOGGER.info(f"  {name}={value}  ({origin})")
        for name, effect in trainer.in_force.items():
            LOGGER.info(f"  {name}: {effect}")
        LOGGER.info(
            f"{len(trainer.train_loader.dataset)} training and {len(trainer.test_loader.dataset)} validation images, "
            f"{trainer.epochs} epochs of {len(trainer.train_loader)} batches, results in {trainer.save_dir}"
        )

    def on_train_epoch_start(self, trainer: BaseTrainer) -> None:
        self.epoch_start, self.images = time.perf_counter(), 0
        line = trainer.progress_string()
        if not trainer.args.verbose or trainer.rank:
            return
        if line:
            LOGGER.info(line)
        if sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TextColumn

            self.live = Progress(TextColumn("{task.description}"), BarColumn(24), transient=True, refresh_per_second=4)
            self.live.start()
            self.task = self.live.add_task(
                f"epoch {trainer.epoch + 1}/{trainer.epochs}", total=len(trainer.train_loader)
            )

    def on_train_batch_end(self, trainer: BaseTrainer) -> None:
        self.images += trainer.images_in_batch
        if self.live is None:
            return
        now = time.perf_counter()
        description = None
        if now - self.last_refresh >= REFRESH_SECONDS:
            self.last_refresh = now
            # A device synchronisation, at most once a second.
            description = f"epoch {trainer.epoch + 1}/{trainer.epochs}  {self._numbers(trainer)}"
        self.live.update(self.task, advance=1, description=description)

    def on_train_epoch_end(self, trainer: BaseTrainer) -> None:
        self._close()
        if trainer.args.verbose:
            # printed before validation, so that a run that dies there has still shown its losses
            self.header = f"epoch {trainer.epoch + 1}/{trainer.epochs}  {self._numbers(trainer)}"

    def on_fit_epoch_end(self, trainer: BaseTrainer) -> None:
        if self.header is None:
            return
        scores = "  ".join(
            f"{name.removeprefix('metrics/').removesuffix('(B)')} {value:.4f}"
            for name, value in trainer.metrics.items()
            if trainer.validated and (name.startswith("metrics/mAP") or (name in trainer.logged and name[-1] == ")"))
        )
        best = "  best" if trainer.new_best else ""
        LOGGER.info(f"{self.header}  {scores}  {_duration(trainer.remaining_seconds())} left{best}")
        self.header = None

    def teardown(self, trainer: BaseTrainer) -> None:
        self._close()

    def _close(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def _numbers(self, trainer: BaseTrainer) -> str:
        rate = self.images / max(time.perf_counter() - self.epoch_start, 1e-9)
        losses = "  ".join(
            f"{name.removesuffix('_loss')} {float(value):.3f}" for name, value in (trainer.tloss or {}).items()
        )
        return f"{rate:.1f} img/s  {_memory(trainer.device)}  {losses}"


def _memory(device: torch.device) -> str:
    """Memory in use: the GPU's where there is one, else the process's."""
    if device.type == "cuda":
        return f"{torch.cuda.memory_reserved(device) / 2**30:.1f} GB"
    import psutil

    return f"{psutil.Process().memory_info().rss / 2**30:.1f} GB"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
