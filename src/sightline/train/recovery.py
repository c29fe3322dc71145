"""What follows from bad steps: back to the last good state, more carefully, and in the end a stop with that state.

guard.py keeps a single bad step from doing harm. Here is what happens when bad steps do not end: the weights are where
they were at the last snapshot, the learning rate shrinks, the number format gets one step safer, and the run goes on
with the next batch. All of it is decided from numbers that all ranks have in common.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from sightline.backends import ranks
from sightline.backends.memory import is_out_of_memory
from sightline.log import LOGGER
from sightline.train.ema import unwrap
from sightline.train.guard import Verdict
from sightline.train.precision import choose
from sightline.train.snapshot import Snapshot, is_finite

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

FORGIVEN_AFTER = 200  # good steps, after which a rollback is history
CONFIRMED_BY = 2  # good steps, after which a copy counts: what the last step did to the weights shows in the next loss
CALM = 2.0  # times the usual loss, above which a state is not kept: it may be on its way out


class Recovery:
    """Keeps the last good state and goes back to it. Its counters are the guard's.

    Attributes:
        snapshot: what a rollback puts back.
        candidate: a younger copy that becomes the snapshot when the next steps are good as well.
        waiting: for how many of those; 0 means that there is no candidate.
    """

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self.candidate = Snapshot()
        self.waiting = 0

    def begin(self, trainer: BaseTrainer) -> None:
        """Before the first batch: there is a state to go back to from here on."""
        self.snapshot.take(trainer)
        self.waiting = 0

    def look(self, trainer: BaseTrainer, *, epoch_is_over: bool = False) -> None:
        """Read the verdict on the last step and act on it; when a backward pass is queued, before its step."""
        guard, settings = trainer.guard, trainer.args
        verdict = guard.heal(trainer.model, trainer.ema)
        if verdict is None:
            return
        guard.level.follow((settings.box, settings.cls, settings.dfl))
        if not verdict.good:
            self.waiting = 0
            self._after_a_bad_step(trainer, verdict, epoch_is_over)
            return
        if guard.good_row == FORGIVEN_AFTER:
            guard.rollbacks = 0
        if self.waiting:
            self.waiting -= 1
            if not self.waiting:
                self.snapshot, self.candidate = self.candidate, self.snapshot
        elif trainer.iteration - self.snapshot.iteration >= settings.snapshot_steps and self._is_calm(trainer):
            self._keep_if_good(trainer)

    def end_epoch(self, trainer: BaseTrainer) -> None:
        """Before validation and checkpoints: nothing that is not finite gets there."""
        self.look(trainer, epoch_is_over=True)
        self._keep_if_good(trainer, only_check=self.waiting > 0 or not self._is_calm(trainer))

    def after_step(self, trainer: BaseTrainer, problem: Exception | None) -> None:
        """An optimizer step that ran out of memory may have moved a part of the weights: back, and smaller pieces.

        Args:
            problem: what the step raised on this rank; the others go back with it.

        Raises:
            Exception: the problem, if it is another one.
        """
        if problem is not None and not is_out_of_memory(problem):
            raise problem
        if not ranks.any_of(problem is not None):
            return
        try:
            trainer.micro_batches.after_failed_step(trainer, problem)  # gives memory back first
        finally:
            self._put_back(trainer)
        self._say(trainer, "step_undone", f"the step that ran out of memory is undone. Back to {self._state()}")

    def _is_calm(self, trainer: BaseTrainer) -> bool:
        guard = trainer.guard
        median = guard.level.median()
        return not (guard.nan_row or guard.spike_row) and (
            guard.last is None or median is None or guard.last.loss <= CALM * max(median, 0.0)
        )

    # ------------------------------------------------------------------ the good state

    def _keep_if_good(self, trainer: BaseTrainer, *, only_check: bool = False) -> None:
        """Copy the state, after a look at every weight and average; what is not finite is put right instead."""
        weights = unwrap(trainer.model).state_dict()
        averages = getattr(trainer.ema, "ema", None)
        if ranks.any_of(not is_finite([weights, trainer.optimizer.state_dict()["state"]])):
            self._go_back(trainer, "a weight or a state of the optimizer is not finite")
        elif ranks.any_of(averages is not None and not is_finite([averages.state_dict()])):
            self.snapshot.put_back_ema(trainer)
            self._say(trainer, "ema_restored", "the average of the weights is not finite: its last good state is back")
        elif not only_check:
            self.candidate.take(trainer)
            self.waiting = CONFIRMED_BY

    # ------------------------------------------------------------------ bad steps

    def _after_a_bad_step(self, trainer: BaseTrainer, verdict: Verdict, epoch_is_over: bool) -> None:
        guard, settings = trainer.guard, trainer.args
        if self._is_the_scalers_search(trainer, verdict):
            guard.nan_row = 0
            return
        evidence: dict[str, Any] = {"loss": verdict.loss, "grad_norm": verdict.grad_norm}
        if verdict.spike:
            reason = f"loss {verdict.loss:.4g} per image is above {settings.spike_factor:g} × its running median"
            evidence["limit"] = verdict.limit
        else:
            what = "loss" if not math.isfinite(verdict.loss) else "gradient"
            reason = f"{what} is not finite"
        if guard.nan_row + guard.spike_row == 1:  # of a row the first is told, the epoch's report counts them
            LOGGER.warning(f"{trainer.place}: {reason}; the step before is skipped.")
        evidence["dump"] = trainer.dumps.write(
            trainer, reason=reason, loss=verdict.loss, grad_norm=verdict.grad_norm, epoch_is_over=epoch_is_over
        )
        guard.note("skipped_step", epoch=trainer.epoch, step=trainer.iteration, reason=reason, **evidence)
        if not verdict.finite and ranks.any_of(not is_finite([dict(unwrap(trainer.model).named_parameters())])):
            self._go_back(trainer, "a weight is not finite, which no step can heal")
        elif settings.nan_patience and guard.nan_row >= settings.nan_patience:
            self._go_back(trainer, f"{guard.nan_row} steps in a row were not finite")
        elif guard.spike_row >= settings.spike_patience:
            self._go_back(trainer, f"{guard.spike_row} spikes in a row, the last with {reason}")

    @staticmethod
    def _is_the_scalers_search(trainer: BaseTrainer, verdict: Verdict) -> bool:
        """fp16 finds its scale by overflowing: while that is above 1, a good loss with such gradients is normal."""
        scaler = trainer.scaler
        return not verdict.finite and math.isfinite(verdict.loss) and scaler.is_enabled() and scaler.get_scale() > 1.0

    def _go_back(self, trainer: BaseTrainer, reason: str) -> None:
        guard, settings = trainer.guard, trainer.args
        self._put_back(trainer)
        guard.level.recent.clear()  # if this is how the loss is from now on, the run should get used to it
        guard.nan_row = guard.spike_row = guard.good_row = 0
        if guard.rollbacks >= settings.max_rollbacks:
            trainer.stop = trainer.stop_training = True
            LOGGER.error(
                f"{trainer.place}: {reason}. The run went back {guard.rollbacks} times (max_rollbacks="
                f"{settings.max_rollbacks}) and it did not help: it stops here with {self._state()}. "
                "Look at the batches in its dumps/ with `sightline doctor replay`, or start again with a lower lr0 "
                "or amp=False."
            )
            guard.note("stopped", epoch=trainer.epoch, step=trainer.iteration, reason=reason)
            return
        guard.rollbacks += 1
        guard.lr_factor *= settings.rollback_lr_factor
        _shrink_learning_rate(trainer, settings.rollback_lr_factor)
        precision = _safer_precision(trainer)
        self._say(
            trainer,
            "rollback",
            f"{reason}. Back to {self._state()}; learning rates × {settings.rollback_lr_factor:g}{precision} "
            f"(rollback {guard.rollbacks}, at most {settings.max_rollbacks} before the run stops)",
            lr_factor=guard.lr_factor,
            precision=trainer.precision.name,
        )

    def _put_back(self, trainer: BaseTrainer) -> None:
        self.snapshot.put_back(trainer)
        self.waiting = 0
        trainer.guard.drop()
        trainer.last_opt_step = trainer.iteration

    def _state(self) -> str:
        return f"the last good weights, of iteration {self.snapshot.iteration + 1}"

    @staticmethod
    def _say(trainer: BaseTrainer, kind: str, text: str, **evidence: object) -> None:
        LOGGER.warning(f"{trainer.place}: {text}.")
        trainer.guard.note(kind, epoch=trainer.epoch, step=trainer.iteration, reason=text, **evidence)


def _shrink_learning_rate(trainer: BaseTrainer, factor: float) -> None:
    """For the rest of the run: the schedule multiplies what the groups begin with."""
    for group in trainer.optimizer.param_groups:
        for name in ("lr", "initial_lr"):
            if name in group:
                group[name] *= factor
        group["lr_factor"] = group.get("lr_factor", 1.0) * factor  # where biases start in the warm-up
    inner = getattr(trainer.schedule, "scheduler", None)  # one of torch's remembers where it started
    if hasattr(inner, "base_lrs"):
        inner.base_lrs = [rate * factor for rate in inner.base_lrs]


def _safer_precision(trainer: BaseTrainer) -> str:
    """fp16 → bf16 → fp32, for the rest of the run. Returns what to add to the message."""
    now = trainer.precision.name
    if now == "fp32":
        return ""
    has_bf16 = trainer.device.type == "cuda" and torch.cuda.get_device_capability(trainer.device) >= (8, 0)
    safer = "bf16" if now == "fp16" and has_bf16 else "fp32"
    trainer.args.assign("amp", safer, origin="auto")
    trainer.precision = choose(safer, trainer.device)
    trainer.scaler = trainer.precision.scaler
    return f", amp={safer} instead of {now}"
