"""The learning-rate range test: a trainer's own steps with a rate that grows from one to the next, until they diverge.

Everything that decides what a step does is that of the run: network and its initial weights, data and augmentation,
loss, precision, clipping, accumulation, optimizer and its groups, which keep their ratios. What a run has around its
steps is left out: callbacks, warm-up and schedule, the average of the weights, validation, and the guard against
spikes, which would hide the divergence that is looked for.

The test runs on a copy of the trainer, so that there is nothing to put back: the trainer, its network, its callbacks
and the process-wide random generators are after it what they were before.
"""

from __future__ import annotations

import copy
import itertools
import math
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from sightline.callbacks.base import CallbackHost
from sightline.config.kinds import FIND
from sightline.data.collate import split_batch
from sightline.data.own_loader import begin_epoch
from sightline.errors import SettingValueError, TrainingError
from sightline.log import LOGGER
from sightline.train import stages
from sightline.train.environment import run_environment, seed_everything
from sightline.train.live_settings import LiveSettings
from sightline.train.lr_curve import Numbers, Reading, has_run_away, read
from sightline.train.random_states import random_state, set_random_state

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

# The optimizer is built with this lr0; what counts is only how the rates of its groups stand to it.
REFERENCE = 0.01
PROBE_IMAGES = 16  # at least, on which the loss is looked at after every step
CHANGED: dict[str, Any] = {
    "lr0": REFERENCE, "lr_min": 0.0, "ema": False, "spike_factor": 0.0, "plots": False, "time": None, "dry_run": False,
}  # fmt: skip


@dataclass(frozen=True)
class RangeTest:
    """What a test has seen.

    Attributes:
        rates: (N,) the lr0 of every step, ascending.
        losses: (N,) loss per image of the batches behind it, from before the step.
        probed: (N,) loss per image of the same few batches after every step; where the test ended, the last may not be
            finite.
        beginning: that before the first step.
        reading: what follows from them.
        optimizer: its name.
        groups: name of a group → its rate as a factor of lr0.
        images: behind a step.
    """

    rates: Numbers
    losses: Numbers
    probed: Numbers
    beginning: float
    reading: Reading
    optimizer: str
    groups: dict[str, float]
    images: int

    def lines(self) -> Iterator[str]:
        """What was seen, for people."""
        reading, rates = self.reading, self.rates
        yield (
            f"{len(rates)} steps of {self.images} images with {self.optimizer}, lr0 from {rates[0]:.2g} to "
            f"{rates[-1]:.2g}"
        )
        if reading.suggestion is None:
            yield "the loss did not fall by more than its noise: nothing can be suggested"
            return
        end = "did not run away" if reading.diverged is None else f"ran away at {reading.diverged:.2g}"
        yield (
            f"the loss fell fastest at lr0={reading.steepest:.2g}, had half of its fall behind it at "
            f"{reading.middle:.2g}, was still low at {reading.limit:.2g}, and {end}"
        )
        yield f"it fell by {reading.fall:.2g}, where single steps scatter by {reading.noise:.2g}"
        yield f"suggestion: lr0={reading.suggestion:.3g}"


def range_test(trainer: BaseTrainer) -> RangeTest:
    """Try learning rates on a trainer that has not been started; `lr_find_min`, `lr_find_max` and `lr_find_steps` are
    settings.

    Raises:
        SettingValueError: the run would be one that goes on, a dry one, or one of several processes.
    """
    refuse_what_makes_no_sense(trainer)
    with ExitStack() as stack:
        stack.enter_context(_generators_restored())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sightline-lr-find-"))
        settings = trainer.args
        stack.enter_context(run_environment(seed=settings.seed, deterministic=settings.deterministic))
        twin = copy_of(trainer)
        for name, value in {**CHANGED, "save_dir": str(Path(folder) / "run")}.items():
            twin.args.assign(name, value, origin="auto")
        twin.live = LiveSettings(twin)  # these are no changes of the user's
        try:
            twin._setup_train()
            twin.ema = NoAverage(twin.model)
            rates, losses, probed = _steps(twin)
        finally:
            twin._close_loaders()
        groups = {
            group.get("name") or group.get("param_group") or str(index): group["initial_lr"] / REFERENCE
            for index, group in enumerate(twin.optimizer.param_groups)
        }
        return RangeTest(
            rates=rates,
            losses=losses,
            probed=probed[1:],
            beginning=float(probed[0]),
            reading=read(rates, probed[1:], float(probed[0])),
            optimizer=type(twin.optimizer).__name__,
            groups=groups,
            images=twin.batch_size * _batches_per_step(twin),
        )


def settle(trainer: BaseTrainer) -> None:
    """`lr0=find` before a run: put what the test suggests in its place, and say so.

    Raises:
        SettingValueError: see `range_test`.
        TrainingError: the loss never fell, so there is nothing to train with.
    """
    if trainer.args.lr0 != FIND:
        return
    LOGGER.info("lr0=find: trying learning rates before the run")
    with trainer.interrupt:  # SIGTERM as an exception, like Ctrl-C: the temporary folder does not stay
        trainer.lr_test = test = range_test(trainer)
    for line in test.lines():
        LOGGER.info(line)
    suggestion = test.reading.suggestion
    if suggestion is None:
        raise TrainingError(
            f"lr0=find: the loss never fell while lr0 went from {test.rates[0]:.2g} to {test.rates[-1]:.2g}, so there "
            "is no rate to begin with. `sightline lr-find` with the same settings draws the curve; `sightline doctor "
            "overfit` says whether anything can be learnt. Or give lr0 a number."
        )
    trainer.args.assign("lr0", suggestion, origin="auto")
    trainer.live = LiveSettings(trainer)  # this is no change of the user's
    trainer.in_force["lr0"] = f"{suggestion:.3g}, found for lr0=find (lr_find.png)"


def refuse_what_makes_no_sense(trainer: BaseTrainer) -> None:
    """
    Raises:
        SettingValueError: see `range_test`.
    """
    settings = trainer.args
    if settings.resume or settings.dry_run:
        other = f"resume={settings.resume}" if settings.resume else "dry_run=True"
        raise SettingValueError(f"learning rates are tried for a run that is to begin: leave {other} out.")
    if trainer.world_size > 1:
        raise SettingValueError(
            f"a learning rate is looked for in one process, but {trainer.world_size} are to train. Run `sightline "
            "lr-find` with device=0 (or without nproc) and the same batch, then train with the lr0 that it prints."
        )


def copy_of(trainer: BaseTrainer) -> BaseTrainer:
    """A trainer that has not been started, once more: with settings and attributes of its own, without callbacks.

    The network that it starts from is shared (a run copies from it), and so is what cannot be copied, such as open
    files of a user's own.
    """
    twin: BaseTrainer = object.__new__(type(trainer))
    settings = trainer.args.copy()
    memo: dict[int, Any] = {id(trainer): twin, id(trainer.args): settings, id(trainer.source): trainer.source}
    for name, value in vars(trainer).items():
        if name not in ("callbacks", "objects"):
            twin.__dict__[name] = _copied(value, memo)
    CallbackHost.__init__(twin)
    return twin


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # a file, a lock, a connection
        return value


class NoAverage:
    """In the place of the average of the weights, which a test has no use for."""

    def __init__(self, model: nn.Module) -> None:
        self.ema = model

    def update(self, *_: Any) -> None:
        """Nothing follows."""


@contextmanager
def _generators_restored() -> Iterator[None]:
    before = random_state()
    try:
        yield
    finally:
        set_random_state(before)


def _steps(trainer: BaseTrainer) -> tuple[Numbers, Numbers, Numbers]:
    """Optimizer steps with a rate that grows by the same factor each time.

    Returns:
        (N,) rates, (N,) losses of the batches behind each step, (N + 1,) losses of the probe, the first of them from
        before any step.
    """
    settings = trainer.args
    wanted = np.geomspace(settings.lr_find_min, settings.lr_find_max, settings.lr_find_steps)
    ratios = [group["initial_lr"] / REFERENCE for group in trainer.optimizer.param_groups]
    per_step = _batches_per_step(trainer)
    trainer._begin_epoch()
    batches = _batches(trainer)
    probe = list(itertools.islice(batches, math.ceil(PROBE_IMAGES / trainer.batch_size)))
    losses: list[float] = []
    probed = [_loss_of(trainer, probe)]
    for rate in wanted:
        for group, ratio in zip(trainer.optimizer.param_groups, ratios, strict=True):
            group["lr"] = float(rate) * ratio
        behind = []
        for batch in itertools.islice(batches, per_step):
            trainer.batch_index += 1  # `multi_scale` draws by it
            trainer.micro_batches.forward_backward(trainer, batch)
            assert trainer.loss is not None
            behind.append(trainer.loss.detach() / trainer.images_in_batch)
        trainer.optimizer_step()
        trainer.guard.read()
        losses.append(float(torch.stack(behind).mean()))
        probed.append(_loss_of(trainer, probe))
        # A batch whose loss is no number moves nothing (`StepGuard`); weights that are none show in the probe.
        if has_run_away(probed[-1], min(probed[:-1]), probed[0]):
            break
    return wanted[: len(losses)], np.array(losses), np.array(probed)


@torch.no_grad()
def _loss_of(trainer: BaseTrainer, batches: list[dict[str, Any]]) -> float:
    """Loss per image of some batches, as in training. What is drawn in it is the same each time, and waits for the
    device: whether there is a next step hangs on it."""
    before, index = random_state(), trainer.batch_index
    losses, counts = [], []
    seed_everything(trainer.args.seed)
    trainer.batch_index = 0
    try:
        for batch in batches:
            limit = trainer.micro_batches.limit
            for piece in [batch] if limit is None else split_batch(batch, limit):
                trainer._forward(dict(piece))
                assert trainer.loss is not None
                losses.append(float(trainer.loss) / len(piece["img"]))
                counts.append(len(piece["img"]))
    finally:
        trainer.batch_index = index
        set_random_state(before)
    return float(np.average(losses, weights=counts))


def _batches(trainer: BaseTrainer) -> Iterator[dict[str, Any]]:
    """Batches without end, all of one size: the rest at the end of an epoch would have a noisier loss."""
    epoch, augmentation = 0, stages.augmentation(trainer)
    whole = min(trainer.batch_size, len(trainer.train_loader.dataset))
    while True:
        if epoch:
            begin_epoch(trainer.train_loader, epoch, mixing=trainer.mixing, start=0, augmentation=augmentation)
        for batch in trainer.train_loader:
            if len(batch["img"]) >= whole or len(trainer.train_loader) == 1:
                yield batch
        epoch += 1


def _batches_per_step(trainer: BaseTrainer) -> int:
    return int(getattr(trainer.schedule, "target", trainer.accumulate))
