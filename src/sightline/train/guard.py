"""What happens to an optimizer step whose loss or gradient is not finite: nothing is moved, and the run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sightline.log import LOGGER
from sightline.train.ema import unwrap
from sightline.train.optim import gate_step

if TYPE_CHECKING:
    from sightline.train.ema import ModelEMA


class StepGuard:
    """Keeps bad steps away from weights, averages and statistics. The verdict stays on the device for one step."""

    def __init__(self) -> None:
        self.finite: Tensor | None = None  # of the last step, () bool on the device; None once it has been read
        self.skipped = 0  # steps since the last report

    def gate(self, optimizer: Any, finite: Tensor) -> None:
        """Before `optimizer.step()`: where `finite` (() bool) is false, let that step move nothing."""
        self.finite = finite
        # An optimizer that cannot be gated on the device costs a synchronisation here.
        if not gate_step(optimizer, finite) and not finite:
            optimizer.zero_grad()  # a parameter without gradient is left alone

    def heal(self, model: nn.Module, ema: ModelEMA) -> None:
        """A forward pass that overflowed also spoils BatchNorm's running statistics: take those of the EMA.

        Call it when the next backward pass has been queued and before the EMA moves again. Running statistics are not
        used in training, so nothing is lost by that, and the device has work while the host reads the flag.
        """
        if self.finite is None:
            return
        if not bool(self.finite):
            self.skipped += 1
            averages = dict(ema.ema.named_buffers())
            for name, buffer in unwrap(model).named_buffers():
                if buffer.is_floating_point() and not buffer.isfinite().all():
                    buffer.copy_(averages[name])
        self.finite = None

    def report(self, epoch: int) -> None:
        """Say how many steps of an epoch (counted from 1) were skipped, if any."""
        if self.skipped:
            LOGGER.warning(
                f"epoch {epoch}: {self.skipped} steps had a loss or gradient that is not finite "
                "and were skipped. If this goes on, lower lr0 or set amp=False."
            )
            self.skipped = 0

    def state_dict(self) -> dict[str, Any]:
        """With the verdict on the last step, which is read one step late. Waits for the device."""
        return {"finite": None if self.finite is None else bool(self.finite), "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.finite = None if state["finite"] is None else torch.tensor(state["finite"], device=device)
        self.skipped = state["skipped"]
