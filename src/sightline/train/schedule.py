"""How learning rate, momentum and accumulation move over a run: the object that applies the curves of lr_shapes.py.

Values are those of the specification, training.md section 12; what goes beyond it is described in docs/schedules.md.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sightline.log import LOGGER
from sightline.train.lr_shapes import LrShape

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from sightline.config.settings import Settings


def accumulation_target(batch: int, nbs: int) -> int:
    """Batches whose gradients make one step, so that about `nbs` images stand behind it."""
    return max(round(nbs / batch), 1)


def batches_per_step(settings: Settings) -> int:
    """What `accumulate` says, else what `nbs` asks for."""
    return settings.accumulate or accumulation_target(int(settings.batch), settings.nbs)


def images_per_step(settings: Settings) -> int:
    """Images behind a step: batch × accumulate, else `nbs` or one batch, whichever is more."""
    batch = int(settings.batch)
    return batch * settings.accumulate if settings.accumulate else max(batch, settings.nbs)


def scaled_weight_decay(weight_decay: float, batch: int, nbs: int, accumulate: int | None = None) -> float:
    """Decay per step in proportion to the images behind a step.

    The loss is a sum over images, so a step on 48 images pulls with 48/64 of the nominal gradient and comes 64/48
    times as often. Decay that follows keeps both the balance between them and the decay of an epoch what they are at
    the nominal batch (docs/decisions/0041).
    """
    return weight_decay * batch * (accumulate or accumulation_target(batch, nbs)) / nbs


def lr_scale(kind: str, batch: int, base: int, damping: float) -> float:
    """The factor on lr0 that `lr_scale` asks for.

    Args:
        kind: none, linear (Goyal et al., arXiv:1706.02677) or sqrt (Krizhevsky, arXiv:1404.5997).
        batch: images per forward pass over all ranks; accumulation is not counted.
        base: the batch for which lr0 was meant.
        damping: a further factor where the rate would rise.
    """
    if kind == "none":
        return 1.0
    ratio = batch / base
    return (ratio if kind == "linear" else math.sqrt(ratio)) * (damping if ratio > 1 else 1.0)


def lr_scale_of(settings: Settings) -> float:
    """The factor on lr0 in a run."""
    return lr_scale(settings.lr_scale, int(settings.batch), settings.lr_base_batch, settings.lr_scale_damping)


def warmup_iterations(epochs: int, warmup_epochs: float, batches: int) -> int:
    """Length of the warm-up in batches; never more than the run without its last epoch."""
    return round(min(warmup_epochs, max(epochs - 1, 0)) * batches) if warmup_epochs > 0 else 0


def warmup_batches(settings: Settings, epochs: int, batches: int) -> int:
    """Length of the warm-up in batches: `warmup_steps` full steps, which is not cut, else `warmup_epochs`."""
    if settings.warmup_steps is not None:
        return settings.warmup_steps * batches_per_step(settings)
    return warmup_iterations(epochs, settings.warmup_epochs, batches)


def ramp(iteration: float, length: float, start: float, end: float) -> float:
    """`start` at iteration 0, `end` from `length` on, a line between."""
    if iteration >= length:
        return end
    return start + (end - start) * (max(iteration, 0) / length)


# What of a schedule does not follow from the settings.
OF_THE_RUN = frozenset({"optimizer", "last_epoch", "warming", "warmup", "warmup_length"})


class Schedule:
    """Sets the numbers of an optimizer's groups as a run goes on.

    Per epoch, or with every batch: lr = initial_lr · factor(epoch), not below `lr_min`. During the warm-up the lr of a
    group rises from `warmup_start_factor` of its initial one (for the group "bias": falls or rises from
    `warmup_bias_lr`) to that value, momentum from `warmup_momentum` to `momentum` (Adam's betas stay), and the
    accumulation from 1 batch to its target, unless it is to hold from the first step on.

    Args:
        optimizer: its groups' lr become their `initial_lr`, unless they have one already.
        batches: batches per epoch.
        accumulate: batches per step after the warm-up (`accumulation_target`), cut here to the length of the run.
        explicit: `accumulate` is what the user asked for: it holds from the first step on and is not cut.
        per_iteration: the learning rate moves with every batch.
        warmup_steps: length of the warm-up in steps, in the place of `warmup_epochs`; they are full ones from the
            first on, or nobody could say how many batches they are.
        scale: the factor of `lr_scale` that the optimizer's learning rates were built with.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        epochs: int,
        batches: int,
        accumulate: int = 1,
        explicit: bool = False,
        shape: LrShape | None = None,
        per_iteration: bool = False,
        lr_min: float = 0.0,
        momentum: float = 0.937,
        warmup_epochs: float = 3.0,
        warmup_steps: int | None = None,
        warmup_start_factor: float = 0.0,
        warmup_momentum: float = 0.8,
        warmup_bias_lr: float = 0.1,
        scale: float = 1.0,
        fixed_time: bool = False,
    ) -> None:
        self.epochs = epochs
        self.batches = batches
        self.shape = shape or LrShape()
        self.per_iteration = per_iteration
        self.lr_min = lr_min
        self.momentum = momentum
        self.warmup_epochs = warmup_epochs
        self.warmup_steps = warmup_steps
        self.warmup_start_factor = warmup_start_factor
        self.warmup_momentum = warmup_momentum
        self.warmup_bias_lr = warmup_bias_lr
        self.scale = scale
        self.explicit = explicit
        # With a time budget nobody knows the number of epochs yet, so there is nothing to cut the target to.
        self.target = accumulate if fixed_time or explicit else max(1, min(accumulate, batches * epochs))
        self.warmup_length: Callable[[int], int] | None = None  # batches an epoch → warm-up; None is the usual rule
        self.warmup = 0
        self.replan(epochs)
        self.warming = False  # whether the numbers of the groups are those of the warm-up
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
            accumulate=batches_per_step(settings),
            explicit=settings.accumulate is not None,
            shape=LrShape.from_settings(settings),
            per_iteration=settings.scheduler_step == "iteration",
            lr_min=settings.lr_min,
            momentum=settings.momentum,
            warmup_epochs=settings.warmup_epochs,
            warmup_steps=settings.warmup_steps,
            warmup_start_factor=settings.warmup_start_factor,
            warmup_momentum=settings.warmup_momentum,
            warmup_bias_lr=settings.warmup_bias_lr,
            scale=lr_scale_of(settings),
            fixed_time=settings.time is not None,
        )

    def factor(self, epoch: float) -> float:
        """What the initial learning rates are multiplied with in that epoch, counted from 0."""
        return self.shape.factor(epoch, self.epochs)

    def at_epoch_start(self, epoch: int) -> None:
        """Set the learning rates of an epoch."""
        self.last_epoch = epoch
        self._set_rates(epoch)

    def at_iteration(self, iteration: int, epoch: int) -> int:
        """Set what moves before a batch; `iteration` counts batches from the start of the run.

        Returns:
            How many batches make a step now.
        """
        if self.warmup == 0 or iteration > self.warmup:
            if self.warming:  # also where a resumed run has a shorter warm-up than the one before
                self._set_momentum(self.momentum)
                self.warming = False
            if self.per_iteration:
                self._set_rates(iteration / self.batches)
            self.accumulate = self.target
            return self.accumulate
        self.warming = True
        if not self.explicit and self.warmup_steps is None:
            self.accumulate = max(1, round(ramp(iteration, self.warmup, 1, self.target)))
        factor = self.factor(iteration / self.batches if self.per_iteration else epoch)
        for group in self.optimizer.param_groups:
            # A group whose rate has a factor (`lr_groups.py`) starts with it, so that ratios hold all along.
            bias = self.warmup_bias_lr * group.get("lr_factor", 1.0)
            low = self.warmup_start_factor * group["initial_lr"]
            start = bias if group.get("param_group") == "bias" else low
            group["lr"] = ramp(iteration, self.warmup, start, self._rate(group, factor))
        self._set_momentum(ramp(iteration, self.warmup, self.warmup_momentum, self.momentum))
        return self.accumulate

    def follow(self, settings: Settings) -> None:
        """Take over settings that have changed during the run."""
        now = Schedule.from_settings(self.optimizer, settings, batches=self.batches)
        for group in self.optimizer.param_groups:
            group["initial_lr"] *= now.scale / self.scale
        for name, value in vars(now).items():
            if name not in OF_THE_RUN:
                setattr(self, name, value)
        self.replan(settings.epochs)
        self._set_momentum(self.momentum)
        self.at_epoch_start(self.last_epoch)

    def replan(self, epochs: int) -> None:
        """Stretch or shrink the run to another number of epochs: a time budget, or a resume with more of them."""
        self.epochs = epochs
        if self.warmup_length is not None:
            self.warmup = self.warmup_length(self.batches)
        elif self.warmup_steps is not None:
            self.warmup = self.warmup_steps * self.target
        else:
            self.warmup = warmup_iterations(epochs, self.warmup_epochs, self.batches)

    def step(self) -> None:
        """Go to the next epoch, as a scheduler of torch does."""
        self.at_epoch_start(self.last_epoch + 1)

    def get_last_lr(self) -> list[float]:
        """The learning rate of every group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "accumulate": self.accumulate,
            "last_epoch": self.last_epoch,
            "warming": self.warming,
            "factor": self.factor(self.last_epoch + 1),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what moved. Settings (lrf, warm-up, …) are those of the run that goes on."""
        self.last_epoch = state["last_epoch"]
        self.warming = state.get("warming", True)

    def change_since(self, state: dict[str, Any]) -> str:
        """What another length of the run does to the curve from here on, for the log; "" for nothing."""
        before, now = state.get("factor"), self.factor(state["last_epoch"] + 1)
        if state["epochs"] == self.epochs or before in (None, now):
            return ""
        return (
            f"epochs={self.epochs}, before {state['epochs']}: the learning rate goes on where the longer run would "
            f"have it, at {now:.3g} of the initial one; the shorter one would be at {before:.3g}"
        )

    def _rate(self, group: dict[str, Any], factor: float) -> float:
        """The learning rate of a group at that factor, not below `lr_min`, which has the group's own factor, too."""
        initial: float = group["initial_lr"]
        floor = self.lr_min * group.get("lr_factor", 1.0)
        return max(initial * factor, min(floor, initial))

    def _set_rates(self, epoch: float) -> None:
        factor = self.factor(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(group, factor)

    def _set_momentum(self, momentum: float) -> None:
        for group in self.optimizer.param_groups:
            if "momentum" in group:
                group["momentum"] = momentum


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
            f"the learning rate is up to {type(self.scheduler).__name__}: epochs, momentum and the settings of "
            "schedule and warm-up do not change it any more."
        )

    def replan(self, epochs: int) -> None:
        """Its own business."""

    def state_dict(self) -> dict[str, Any]:
        return dict(self.scheduler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scheduler.load_state_dict(state)
        self.has_stepped = False
