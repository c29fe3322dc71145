"""What happens when a user assigns something on a trainer: a setting, a part of their own, or whatever they like."""

from __future__ import annotations

from typing import Any

from sightline.callbacks.base import CallbackHost
from sightline.config.settings import CODE, DEFAULTS, Settings
from sightline.train.schedule import TorchSchedule


class Assignable(CallbackHost):
    """The trainer's side of assignments.

    A name of a setting is the setting, unless the trainer has an attribute or property of that name. A replaced
    optimizer or scheduler is the one that is used from then on; `scaler` and `ema` need nothing for that.
    """

    args: Settings
    epoch: int
    fitness: float | None
    schedule: Any  # what drives the learning rates: the scheduler, in a common form
    optimizer: Any

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__.get("_own_names", ())
        if own and name in DEFAULTS and name not in own and not hasattr(type(self), name):
            self.args.assign(name, value, origin=CODE)
            return
        if name == "scheduler" and isinstance(value, str):  # the setting of that name, not an object
            self.args.assign(name, value, origin=CODE)
            return
        if name == "scheduler":
            ours = value is None or hasattr(value, "at_iteration")
            self.schedule = value if ours else TorchSchedule(value, self.schedule, self.epoch, lambda: self.fitness)
        super().__setattr__(name, value)
        if name == "optimizer" and value is not None:
            self._use_optimizer(value)

    def __getattr__(self, name: str) -> Any:
        """A setting that the trainer has no attribute for is read from `args`."""
        if name in DEFAULTS and "args" in self.__dict__:
            return getattr(self.args, name)
        raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")

    def _use_optimizer(self, optimizer: Any) -> None:
        """Fire the events of a step wherever the step is made, and let the schedule move this optimizer's groups."""
        if hasattr(optimizer, "register_step_pre_hook"):
            optimizer.register_step_pre_hook(lambda *_: self._optimizer_event(optimizer, "optimizer_step"))
            optimizer.register_step_post_hook(
                lambda *_: self._optimizer_event(optimizer, "on_params_update", "on_before_zero_grad")
            )
        if self.schedule is not None:
            self.schedule.adopt(optimizer)

    def _optimizer_event(self, optimizer: Any, *events: str) -> None:
        if optimizer is self.optimizer:  # not one that has been replaced
            for event in events:
                self.run_callbacks(event)
