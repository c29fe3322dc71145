"""How learning rate, momentum and accumulation move over a run: pure functions, and the object that applies them.

Values are those of the specification, training.md section 12.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sightline.log import LOGGER

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from sightline.config.settings import Settings


def linear_factor(epoch: float, epochs: int, lrf: float) -> float:
    """1 at epoch 0, falling in a line; `lrf` would come at `epochs`, one after the last."""
    return max(1 - epoch / epochs, 0) * (1 - lrf) + lrf


def cosine_factor(epoch: float, epochs: int, lrf: float) -> float:
    """1 at epoch 0, falling along half a cosine to `lrf` at `epochs`. Source: arXiv:1608.03983, without restarts."""
    return max((1 - math.cos(epoch * math.pi / epochs)) / 2, 0) * (lrf - 1) + 1


def accumulation_target(batch: int, nbs: int) -> int:
    """Batches whose gradients make one step, so that about `nbs` images stand behind it."""
    return max(round(nbs / batch), 1)


def scaled_weight_decay(weight_decay: float, batch: int, nbs: int) -> float:
    """Decay per step in proportion to the images behind a step.

    The loss is a sum over images, so a step on 48 images pulls with 48/64 of the nominal gradient and comes 64/48
    times as often. Decay that follows keeps both the balance between them and the decay of an epoch what they are at
    the nominal batch (docs/decisions/0041).
    """
    return weight_decay * batch * accumulation_target(batch, nbs) / nbs


def warmup_iterations(epochs: int, warmup_epochs: float, batches: int) -> int:
    """Length of the warm-up in batches; never more than the run without its last epoch."""
    return round(min(warmup_epochs, max(epochs - 1, 0)) * batches) if warmup_epochs > 0 else 0


def ramp(iteration: float, length: float, start: float, end: float) -> float:
    """`start` at iteration 0, `end` from `length` on, a line between."""
    if iteration >= length:
        return end
    return start + (end - start) * (max(iteration, 0) / length)


class Schedule:
    """Sets the numbers of an optimizer's groups as a run goes on.

    Per epoch: lr = initial_lr · factor(epoch). During the warm-up the lr of a group rises from 0 (for the group
    "bias": falls or rises from `warmup_bias_lr`) to that value, momentum from `warmup_momentum` to `momentum` (Adam's
    betas stay), and the accumulation from 1 batch to its target.

    Args:
        optimizer: its groups' lr become their `initial_lr`, unless they have one already.
        batches: batches per epoch.
        accumulate: batches per step after the warm-up (`accumulation_target`), cut here to the length of the run.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        epochs: int,
        batches: int,
        accumulate: int = 1,
        lrf: float = 0.01,
        cosine: bool = False,
        momentum: float = 0.937,
        warmup_epochs: float = 3.0,
        warmup_momentum: float = 0.8,
        warmup_bias_lr: float = 0.1,
        fixed_time: bool = False,
    ) -> None:
        self.epochs = epochs
        self.batches = batches
        self.lrf = lrf
        self.shape: Callable[[float, int, float], float] = cosine_factor if cosine else linear_factor
        self.momentum = momentum
        self.warmup_epochs = warmup_epochs
        self.warmup_momentum = warmup_momentum
        self.warmup_bias_lr = warmup_bias_lr
        # With a time budget nobody knows the number of epochs yet, so there is nothing to cut the target to.
        self.target = accumulate if fixed_time else max(1, min(accumulate, batches * epochs))
        self.warmup_length: Callable[[int], int] | None = None  # batches an epoch → warm-up; None is the usual rule
        self.warmup = warmup_iterations(epochs, warmup_epochs, batches)
        self.accumulate = self.target  # what holds now
        self.last_epoch = -1
        self.adopt(optimizer)

    def adopt(self, optimizer: Optimizer) -> None:
        """Move the numbers of this optimizer from now on."""
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    @classmethod
    def from_settings(cls, optimizer: Optimizer, settings: Settings, *, batches: int) -> Schedule:
        """The schedule that the settings of a run ask for."""
        return cls(
            optimizer,
            epochs=settings.epochs,
            batches=batches,
            accumulate=accumulation_target(settings.batch, settings.nbs),
            lrf=settings.lrf,
            cosine=settings.cos_lr,
            momentum=settings.momentum,
            warmup_epochs=settings.warmup_epochs,
            warmup_momentum=settings.warmup_momentum,
            warmup_bias_lr=settings.warmup_bias_lr,
            fixed_time=settings.time is not None,
        )

    def factor(self, epoch: float) -> float:
        """What the initial learning rates are multiplied with in that epoch, counted from 0."""
        return self.shape(epoch, self.epochs, self.lrf)

    def at_epoch_start(self, epoch: int) -> None:
        """Set the learning rates of an epoch."""
        self.last_epoch = epoch
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.factor(epoch)

    def at_iteration(self, iteration: int, epoch: int) -> int:
        """Set what the warm-up changes before a batch; `iteration` counts batches from the start of the run.

        Returns:
            How many batches make a step now.
        """
        if self.warmup == 0 or iteration > self.warmup:
            return self.accumulate
        self.accumulate = max(1, round(ramp(iteration, self.warmup, 1, self.target)))
        factor = self.factor(epoch)
        for group in self.optimizer.param_groups:
            # A group whose rate has a factor (`lr_groups.py`) starts with it, so that ratios hold all along.
            bias = self.warmup_bias_lr * group.get("lr_factor", 1.0)
            start = bias if group.get("param_group") == "bias" else 0.0
            group["lr"] = ramp(iteration, self.warmup, start, group["initial_lr"] * factor)
            if "momentum" in group:
                group["momentum"] = ramp(iteration, self.warmup, self.warmup_momentum, self.momentum)
        return self.accumulate

    def follow(self, settings: Settings) -> None:
        """Take over settings that have changed during the run."""
        self.lrf, self.momentum = settings.lrf, settings.momentum
        self.shape = cosine_factor if settings.cos_lr else linear_factor
        self.warmup_epochs, self.warmup_momentum = settings.warmup_epochs, settings.warmup_momentum
        self.warmup_bias_lr = settings.warmup_bias_lr
        target = accumulation_target(settings.batch, settings.nbs)
        if settings.time is None:
            target = max(1, min(target, self.batches * settings.epochs))
        if target != self.target:
            self.target = self.accumulate = target
        self.replan(settings.epochs)
        for group in self.optimizer.param_groups:
            if "momentum" in group:
                group["momentum"] = self.momentum
        self.at_epoch_start(self.last_epoch)

    def replan(self, epochs: int) -> None:
        """Stretch or shrink the run to another number of epochs; used when time, not epochs, is the budget."""
        self.epochs = epochs
        if self.warmup_length is not None:
            self.warmup = self.warmup_length(self.batches)
        else:
            self.warmup = warmup_iterations(epochs, self.warmup_epochs, self.batches)

    def step(self) -> None:
        """Go to the next epoch, as a scheduler of torch does."""
        self.at_epoch_start(self.last_epoch + 1)

    def get_last_lr(self) -> list[float]:
        """The learning rate of every group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "accumulate": self.accumulate, "last_epoch": self.last_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what moved. Settings (lrf, warm-up, …) are those of the run that goes on."""
        self.accumulate, self.last_epoch = state["accumulate"], state["last_epoch"]


class TorchSchedule:
    """A learning-rate scheduler of torch (or like it) in the place of `Schedule`: one `step` an epoch, no warm-up.

    Args:
        scheduler: anything with `step`, `state_dict` and `load_state_dict`. One that wants a metric
            (`ReduceLROnPlateau`) gets the fitness of the epoch before.
        before: the schedule that it replaces; batches per step stay as they are there.
        epoch: the epoch in which it does.
        fitness: called for the last fitness, None if there was no validation.
    """

    def __init__(
        self, scheduler: Any, before: Schedule | TorchSchedule | None, epoch: int, fitness: Callable[[], Any]
    ) -> None:
        self.scheduler = scheduler
        self.fitness = fitness
        self.accumulate: int = before.target if isinstance(before, Schedule) else getattr(before, "accumulate", 1)
        self.factor = getattr(before, "factor", None)
        self.last_epoch: int = getattr(before, "last_epoch", -1)
        # torch's schedulers make their first step when they are built, for the epoch that comes or is there.
        self.has_stepped = self.last_epoch < epoch

    def at_epoch_start(self, epoch: int) -> None:
        if not self.has_stepped and "metrics" not in inspect.signature(self.scheduler.step).parameters:
            self.scheduler.step()
        elif not self.has_stepped and self.fitness() is not None:
            self.scheduler.step(self.fitness())
        self.last_epoch, self.has_stepped = epoch, False

    def at_iteration(self, iteration: int, epoch: int) -> int:
        return self.accumulate

    def adopt(self, optimizer: Optimizer) -> None:
        """The optimizer was replaced, too: torch's schedulers know theirs by this name."""
        self.scheduler.optimizer = optimizer

    def follow(self, settings: Settings) -> None:
        LOGGER.warning(
            f"the learning rate is up to {type(self.scheduler).__name__}: epochs, lrf, cos_lr, momentum, warmup_* and "
            "nbs do not change it any more."
        )

    def replan(self, epochs: int) -> None:
        """Its own business."""

    def state_dict(self) -> dict[str, Any]:
        return dict(self.scheduler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scheduler.load_state_dict(state)
        self.has_stepped = False
