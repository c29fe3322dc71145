"""The batch test: what batches of growing size take in time and memory, and how noisy the gradients of this run are.

It runs on a copy of the trainer, like the range test of learning rates (range_test.py), and makes a trainer's own
passes and steps: network, data and augmentation, loss, precision, optimizer.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.backends.memory import MemoryMeter, is_out_of_memory, release
from sightline.config.kinds import FIND
from sightline.data.collate import first_images, join_batches, split_batch
from sightline.errors import SettingValueError
from sightline.log import LOGGER
from sightline.train import batch_choice
from sightline.train.batch_choice import Choice, Measured
from sightline.train.ema import unwrap
from sightline.train.memory import GIB, SHARE
from sightline.train.noise_scale import NoiseScale, noise_scale
from sightline.train.schedule import batches_per_step, lr_scale_of
from sightline.train.twin import endless_batches, refuse_what_makes_no_sense, twin_of

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

PIECES = 4  # of the images behind a step, whose gradients are compared
TIMED = 3  # steps at least of every size, and seconds
ENOUGH_SECONDS = 1.0
PATIENCE = 60.0  # seconds that a step may take; larger batches are not tried


@dataclass(frozen=True)
class BatchTest:
    """What a test has seen.

    Attributes:
        sizes: every batch that was tried, ascending.
        budget, free: bytes that a step may take, and that were free.
        noise: the gradient noise scale.
        batch, accumulate, lr: as the settings have them; `lr` is lr0 times what `lr_scale` makes of it, if that is on.
        optimizer: its name.
        choice: what is recommended; None where nothing fits.
        new_lr: the rate for it.
        device: in words.
    """

    sizes: list[Measured]
    budget: float
    free: float
    noise: NoiseScale
    batch: int
    accumulate: int
    lr: float
    lr_scale: bool
    optimizer: str
    choice: Choice | None
    new_lr: float
    device: str

    def lines(self) -> Iterator[str]:
        """What was seen, for people."""
        yield f"{'batch':>6} {'img/s':>9} {'pass':>9} {'step':>9} {'memory':>10}"
        for size in self.sizes:
            remark = "" if size.fits else f"  above the budget of {self.budget / GIB:.1f} GiB"
            if math.isinf(size.memory):
                yield f"{size.batch:>6}  out of memory"
                continue
            yield (
                f"{size.batch:>6} {size.images_per_second:>9.1f} {1e3 * size.pass_seconds:>6.0f} ms "
                f"{1e3 * size.step_seconds:>6.0f} ms {size.memory / GIB:>6.2f} GiB{remark}"
            )
        yield f"gradient noise scale: {self.noise.words()}"
        yield (
            f"now: batch={self.batch} × {self.accumulate} = {self.batch * self.accumulate} images a step, "
            f"lr0={self.lr:.3g} with {self.optimizer}"
        )
        if self.choice is None:
            yield "not even one image fits: lower imgsz or take a smaller model"
            return
        words = " ".join(f"{name}={value}" for name, value in self.settings().items())
        yield f"recommended: {words}   ({self.choice.why})"

    def settings(self) -> dict[str, Any]:
        """The recommendation as settings for train; empty where nothing fits."""
        if self.choice is None:
            return {}
        rate = float(f"{self.new_lr:.3g}")
        found = {"batch": self.choice.batch, "accumulate": self.choice.accumulate, "lr0": rate}
        return {**found, "lr_scale": "none"} if self.lr_scale else found


def batch_test(trainer: BaseTrainer) -> BatchTest:
    """Try batches on a trainer that has not been started; `batch_find_steps` and `batch_find_max` are settings.

    Raises:
        SettingValueError: the run would be one that goes on, a dry one, or one of several processes.
    """
    refuse_what_makes_no_sense(trainer, "batch-find", "batch")
    if trainer.args.lr0 == FIND:
        raise SettingValueError("batch-find scales a learning rate, so lr0=find leaves it nothing: give lr0 a number.")
    meter = MemoryMeter(trainer.device)  # before there is anything, so that all that a run takes is counted
    with twin_of(trainer, spike_factor=0.0, plots=False, time=None, dry_run=False) as twin:
        settings, batches = twin.args, endless_batches(twin)
        accumulate = batches_per_step(settings)
        noise = _noise(twin, batches, accumulate)
        sizes = list(_sizes(twin, batches, meter, SHARE * meter.free))
        optimizer, lr = type(twin.optimizer).__name__, float(settings.lr0) * lr_scale_of(settings)
        images = getattr(twin.train_loader.dataset, "images_per_epoch", len(twin.train_loader.dataset))
        batch, epochs, scales = twin.batch_size, settings.epochs, settings.lr_scale != "none"
    choice = batch_choice.choose(sizes, noise.images, images=images, epochs=epochs)
    after = batch * accumulate if choice is None else choice.images
    new_lr = batch_choice.scaled_rate(
        lr, before=batch * accumulate, after=after, noise=noise.images, optimizer=optimizer
    )
    return BatchTest(
        sizes=sizes, budget=SHARE * meter.free, free=meter.free, noise=noise, batch=batch, accumulate=accumulate, lr=lr,
        lr_scale=scales, optimizer=optimizer, choice=choice, new_lr=new_lr, device=_name_of(trainer.device),
    )  # fmt: skip


def _noise(trainer: BaseTrainer, batches: Iterator[dict[str, Any]], accumulate: int) -> NoiseScale:
    """Train for a few steps as the run would, and compare the gradients of the pieces of each.

    The first half of the steps only gets the weights off their random beginning.
    """
    length, split = len(trainer.train_loader), max(PIECES // accumulate, 1)
    piece_squares, mean_squares = [], []
    size = max(trainer.batch_size // split, 1)
    pieces = accumulate * -(-trainer.batch_size // size)
    if pieces < 2:
        return NoiseScale(math.nan, math.nan, math.nan, 0)
    steps = trainer.args.batch_find_steps
    LOGGER.info(f"{steps} steps of {accumulate * trainer.batch_size} images, for the noise of their gradients")
    trainer._begin_epoch()
    for step in range(steps):
        total: dict[int, Tensor] = {}
        squares = []
        for behind in range(accumulate):
            trainer.epoch, trainer.batch_index = divmod(step * accumulate + behind, length)
            if trainer.batch_index == 0 and trainer.epoch:
                trainer.schedule.at_epoch_start(trainer.epoch)
            trainer.schedule.at_iteration(trainer.iteration, trainer.epoch)
            for piece in split_batch(next(batches), size):
                trainer.micro_batches.forward_backward(trainer, piece)
                squares.append(_add(total, unwrap(trainer.model), len(piece["img"]), trainer.scaler.get_scale()))
        scale = trainer.scaler.get_scale()
        images = accumulate * trainer.batch_size
        mean_squares.append(float(_square(list(total.values()))) / (scale * images) ** 2)
        piece_squares.append(float(torch.stack(squares).mean()))
        for parameter in unwrap(trainer.model).parameters():
            parameter.grad = total.get(id(parameter))
        trainer.optimizer_step()
        trainer.guard.read()
    half = len(mean_squares) // 2
    return noise_scale(
        np.array(piece_squares[half:]),
        np.array(mean_squares[half:]),
        images=accumulate * trainer.batch_size / pieces,
        pieces=pieces,
    )


@torch.no_grad()
def _add(total: dict[int, Tensor], model: nn.Module, images: int, scale: float) -> Tensor:
    """Take the gradients of a piece away from the network and add them to the others.

    Returns:
        () squared norm of the gradient of one image.
    """
    grads = {id(parameter): parameter.grad for parameter in model.parameters() if parameter.grad is not None}
    square = _square(list(grads.values())) / (scale * images) ** 2
    for key, grad in grads.items():
        total[key] = grad if key not in total else total[key].add_(grad)
    for parameter in model.parameters():
        parameter.grad = None
    return square


def _square(tensors: list[Tensor]) -> Tensor:
    return torch.stack([norm.double() for norm in torch._foreach_norm(tensors)]).square().sum()


def _sizes(
    trainer: BaseTrainer, batches: Iterator[dict[str, Any]], meter: MemoryMeter, budget: float
) -> Iterator[Measured]:
    """Steps of 1, 2, 4, … images, until the memory, the images or the patience run out."""
    most = min(trainer.args.batch_find_max, len(trainer.train_loader.dataset))
    for group in trainer.optimizer.param_groups:
        group["lr"] = 0.0  # what is timed may not change what is timed next
    pool, size = next(batches), 1
    while size <= most:
        while len(pool["img"]) < size:
            pool = join_batches([pool, next(batches)])
        LOGGER.info(f"batch {size} …")
        measured = _measure(trainer, first_images(pool, size), meter, budget)
        yield measured
        if not measured.fits:
            return
        seconds = measured.pass_seconds + measured.step_seconds
        if 2 * seconds > PATIENCE and 2 * size <= most:
            LOGGER.info(
                f"a step of {2 * size} images would take more than {PATIENCE:.0f} s: larger batches are not tried"
            )
            return
        size *= 2


def _measure(trainer: BaseTrainer, batch: dict[str, Any], meter: MemoryMeter, budget: float) -> Measured:
    images, problem = len(batch["img"]), None
    passes: list[float] = []
    steps: list[float] = []
    try:
        with meter.measure():
            _timed_step(trainer, batch)  # the first also sets things up
        while len(passes) < TIMED or sum(passes) + sum(steps) < ENOUGH_SECONDS:
            one_pass, one_step = _timed_step(trainer, batch)
            passes.append(one_pass)
            steps.append(one_step)
            if sum(passes) > PATIENCE:
                break
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        problem = error
    if problem is not None:
        trainer.loss = None
        trainer.optimizer.zero_grad()
        release(problem)
        return Measured(images, math.nan, math.nan, math.inf, fits=False)
    peak = float(meter.peak)
    return Measured(images, statistics.median(passes), statistics.median(steps), peak, fits=peak <= budget)


def _timed_step(trainer: BaseTrainer, batch: dict[str, Any]) -> tuple[float, float]:
    """Seconds of forward and backward, and of the optimizer's step."""
    began = _now(trainer.device)
    trainer._forward(dict(batch))
    trainer._backward()
    middle = _now(trainer.device)
    trainer.optimizer_step()
    return middle - began, _now(trainer.device) - middle


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
