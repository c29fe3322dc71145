"""The learning-rate range test: a trainer's own steps with a rate that grows from one to the next, until they diverge.

Everything that decides what a step does is that of the run: network and its initial weights, data and augmentation,
loss, precision, clipping, accumulation, optimizer and its groups, which keep their ratios. What a run has around its
steps is left out: callbacks, warm-up and schedule, the average of the weights, validation, and the guard against
spikes, which would hide the divergence that is looked for.

The test runs on a copy of the trainer, so that there is nothing to put back: the trainer, its network, its callbacks
and the process-wide random generators are after it what they were before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from sightline.config.kinds import FIND
from sightline.data.collate import split_batch
from sightline.errors import TrainingError
from sightline.log import LOGGER
from sightline.train.environment import seed_everything
from sightline.train.live_settings import LiveSettings
from sightline.train.lr_curve import Numbers, Reading, has_run_away, read
from sightline.train.random_states import random_state, set_random_state
from sightline.train.twin import endless_batches, refuse_what_makes_no_sense, twin_of

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
            f"the loss fell fastest at lr0={reading.steepest:.2g}, was low from {reading.bottom:.2g} to "
            f"{reading.limit:.2g}, and {end}"
        )
        yield f"it fell by {reading.fall:.2g}, where single steps scatter by {reading.noise:.2g}"
        yield f"suggestion: lr0={reading.suggestion:.3g}"


def range_test(trainer: BaseTrainer) -> RangeTest:
    """Try learning rates on a trainer that has not been started; `lr_find_min`, `lr_find_max` and `lr_find_steps` are
    settings.

    Raises:
        SettingValueError: the run would be one that goes on, a dry one, or one of several processes.
    """
    refuse_what_makes_no_sense(trainer, "lr-find", "lr0")
    with twin_of(trainer, **CHANGED) as twin:
        twin.ema = NoAverage(twin.model)
        rates, losses, probed = _steps(twin)
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


class NoAverage:
    """In the place of the average of the weights, which a test has no use for."""

    def __init__(self, model: nn.Module) -> None:
        self.ema = model

    def update(self, *_: Any) -> None:
        """Nothing follows."""


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
    batches = endless_batches(trainer)
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


def _batches_per_step(trainer: BaseTrainer) -> int:
    return int(getattr(trainer.schedule, "target", trainer.accumulate))
