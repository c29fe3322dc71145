"""What happens to an optimizer step whose loss or gradient is bad: nothing is moved, and the run goes on.

The verdict on a step is reached on the device and applied there (docs/decisions/0042). The host reads it one batch
late, when it costs no wait; what follows from several bad steps is up to recovery.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sightline.backends import ranks
from sightline.backends.pulse import PULSE
from sightline.log import LOGGER
from sightline.train.ema import unwrap
from sightline.train.late import Late
from sightline.train.loss_level import LossLevel
from sightline.train.optim import gate_step

if TYPE_CHECKING:
    from sightline.train.ema import ModelEMA

MOST_EVENTS = 1000  # kept in memory


class Verdict(NamedTuple):
    """On one step, as the host reads it."""

    finite: bool  # loss and gradient
    loss: float  # largest loss per image of the batches behind the step, over all ranks
    grad_norm: float
    limit: float  # above which the loss is a spike

    @property
    def spike(self) -> bool:
        return self.finite and self.loss > self.limit

    @property
    def good(self) -> bool:
        return self.finite and not self.spike


class StepGuard:
    """Keeps bad steps away from weights, averages and statistics. The verdict stays on the device for one batch.

    Attributes:
        finite: () bool on the device, whether the last step may move anything; None once it has been read.
        skipped: steps since the last report that were not finite.
        spikes: the same, whose loss was far above the usual.
        level: what the loss usually is.
        last: the last verdict that was read.
        nan_row, spike_row: bad steps in a row.
        good_row: good steps since the last rollback.
        rollbacks: how often the run went back; counted anew after some good steps.
        lr_factor: product of what rollbacks did to the learning rate.
        events: what happened, as plain dicts with kind, epoch (from 1), step and evidence.

    Args:
        tell: also called with each event, as `tell(kind, epoch=…, step=…, **evidence)`.
    """

    def __init__(self, tell: Callable[..., None] | None = None) -> None:
        self.tell = tell
        self.finite: Tensor | None = None
        self.skipped = 0
        self.spikes = 0
        self.level = LossLevel()
        self.last: Verdict | None = None
        self.nan_row = self.spike_row = self.good_row = 0
        self.rollbacks = 0
        self.lr_factor = 1.0
        self.events: list[dict[str, Any]] = []
        self._loss: Tensor | None = None  # () largest loss per image since the last step, on the device
        self._limit = math.inf
        self._pending: Late | None = None  # finite, loss, gradient norm of the last step

    # ------------------------------------------------------------------ on the device

    def watch(self, loss: Tensor, images: int) -> None:
        """The loss of a batch, once its forward pass has been queued. NaN stays NaN whatever comes after it."""
        per_image = loss.detach().float() / images
        before = self._loss
        self._loss = per_image if before is None else torch.maximum(before.to(per_image.device), per_image)

    def gate(self, optimizer: Any, grad_norm: Tensor, *, spike_factor: float = 0.0) -> None:
        """Before `optimizer.step()`: where the loss or the gradient is bad, let that step move nothing.

        Args:
            grad_norm: () of all gradients; the same on all ranks.
            spike_factor: how many times the usual loss is too much; 0 leaves only what is not finite.
        """
        loss = self._loss if self._loss is not None else torch.zeros_like(grad_norm)
        loss = _largest_of_ranks(loss.to(grad_norm.device))
        self._limit = self.level.limit(spike_factor)
        finite = grad_norm.isfinite() & loss.isfinite()
        self.finite = finite & (loss <= self._limit) if math.isfinite(self._limit) else finite
        self._pending = Late(torch.stack([finite.float(), loss.float(), grad_norm.detach().float()]))
        self._loss = None
        # An optimizer that cannot be gated on the device costs a synchronisation here.
        if not gate_step(optimizer, self.finite) and not self.finite:
            optimizer.zero_grad()  # a parameter without gradient is left alone

    def after_step(self) -> None:
        """A user's own `optimizer_step` need not ask the guard: then the loss alone is judged, and nothing gated."""
        if self._pending is None and self._loss is not None:
            finite = self._loss.isfinite().float()
            self._limit = math.inf
            self._pending = Late(torch.stack([finite, self._loss, torch.zeros_like(self._loss)]))
        self._loss = None

    # ------------------------------------------------------------------ on the host, one batch late

    def read(self) -> Verdict | None:
        """The verdict on the last step, once; None where it has been read or nobody asked the guard."""
        if self._pending is None:
            return None
        finite, loss, grad_norm = self._pending.read()
        self._pending = None
        self.last = verdict = Verdict(bool(finite), loss, grad_norm, self._limit)
        if verdict.good:
            self.level.add(loss)
            self.nan_row = self.spike_row = 0
            self.good_row += 1
        elif verdict.spike:
            self.spikes += 1
            self.nan_row, self.spike_row, self.good_row = 0, self.spike_row + 1, 0
        else:
            self.skipped += 1
            self.nan_row, self.spike_row, self.good_row = self.nan_row + 1, 0, 0
        return verdict

    def heal(self, model: nn.Module, ema: ModelEMA) -> Verdict | None:
        """A forward pass that overflowed also spoils BatchNorm's running statistics: take those of the EMA.

        Call it when the next backward pass has been queued and before the EMA moves again. Running statistics are not
        used in training, so nothing is lost by that, and the device has work while the host reads the flag.
        """
        verdict = self.read()
        if verdict is not None and not verdict.finite:
            averages = dict(ema.ema.named_buffers())
            for name, buffer in unwrap(model).named_buffers():
                if buffer.is_floating_point() and not buffer.isfinite().all():
                    buffer.copy_(averages[name])
        if verdict is not None:
            self.finite = None
        return verdict

    def drop(self) -> None:
        """Forget what waits for a verdict: the run has gone back."""
        self.finite = self._loss = self._pending = None

    def note(self, kind: str, *, epoch: int, step: int, **evidence: Any) -> None:
        """Remember what happened, for those who write it down."""
        self.events.append({"kind": kind, "epoch": epoch + 1, "step": step, "evidence": evidence})
        del self.events[:-MOST_EVENTS]
        if self.tell is not None:
            self.tell(kind, epoch=epoch + 1, step=step, **evidence)

    def report(self, epoch: int) -> None:
        """Say how many steps of an epoch (counted from 1) were skipped, if any."""
        if self.skipped:
            LOGGER.warning(
                f"epoch {epoch}: {self.skipped} steps had a loss or gradient that is not finite "
                "and were skipped. If this goes on, lower lr0 or set amp=False."
            )
        if self.spikes:
            LOGGER.warning(f"epoch {epoch}: {self.spikes} steps had a loss far above the usual and were skipped.")
        self.skipped = self.spikes = 0

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """A verdict that nobody has read yet is part of it, so that saving between two batches changes nothing."""
        return {
            "pending": None if self._pending is None else self._pending.read(),
            "limit": self._limit,
            "loss": None if self._loss is None else float(self._loss),
            "level": self.level.state_dict(),
            **{name: getattr(self, name) for name in _COUNTED},
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device | None = None) -> None:
        pending, loss = state.get("pending"), state.get("loss")
        self._pending = None if pending is None else Late(torch.tensor(pending))
        self.finite = None
        self._limit = state.get("limit", math.inf)
        self._loss = None if loss is None else torch.tensor(loss, device=device)
        self.level.load_state_dict(state.get("level", {}))
        for name in _COUNTED:
            setattr(self, name, state.get(name, getattr(self, name)))


_COUNTED = ("skipped", "spikes", "nan_row", "spike_row", "good_row", "rollbacks", "lr_factor")


def _largest_of_ranks(loss: Tensor) -> Tensor:
    """On several ranks each has the loss of its part. What is not finite becomes infinite: a maximum may lose NaN."""
    if ranks.count() == 1:
        return loss
    loss = loss.nan_to_num(nan=math.inf, posinf=math.inf, neginf=math.inf)
    with PULSE.waiting():
        dist.all_reduce(loss, op=dist.ReduceOp.MAX)
    return loss
