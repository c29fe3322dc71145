"""The moving average of the weights, which is what a run validates and saves.

Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging (1992); decay that grows with the
number of updates as in training.md, section 13.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sightline.errors import SettingValueError
from sightline.models.copies import copy_of

if TYPE_CHECKING:
    from sightline.config.settings import Settings

# What validation and checkpoints need to know of the model, and what may change during training.
ATTRIBUTES = ("yaml", "nc", "args", "names", "stride", "class_weights")


class ModelEMA:
    """A copy of a model in eval mode whose weights follow the model's, e ← e + (1 − d)(m − e).

    d(x) = decay · (1 − exp(−x / tau)) after x updates, so the copy follows closely at first.
    Kept in float32 or better whatever the model's type: an update of 1e-4 of a value is lost in half precision.

    Args:
        model: may be wrapped by `torch.compile` or DistributedDataParallel; the copy is of what is inside.
        updates: where to continue counting.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, tau: float = 2000, updates: int = 0) -> None:
        self.ema: nn.Module = copy_of(unwrap(model), with_criterion=True).eval()
        for parameter in self.ema.parameters():
            parameter.requires_grad_(False)
        self.ema._apply(_at_least_float32)
        self.updates = updates
        self.final_decay = decay
        self.tau = tau

    def decay(self, updates: float) -> float:
        """The weight of the old value in the given update, counted from 1."""
        return self.final_decay * (1 - math.exp(-updates / self.tau))

    @torch.no_grad()
    def update(self, model: nn.Module, finite: Tensor | None = None) -> None:
        """Follow the model by one step: floating entries of the state dict are averaged, all others copied.

        Args:
            finite: () bool on the model's device. Where it is false the copy stays as it is, also if the model holds
                NaN; only the count goes on. On a GPU nobody waits for its value.
        """
        self.updates += 1
        if finite is not None and finite.device.type != "cuda":
            if not finite:
                return
            finite = None
        share = 1 - self.decay(self.updates)
        # The parameters themselves: making a detached tensor of each takes longer than the averaging.
        source = unwrap(model).state_dict(keep_vars=True)
        averages, values = [], []
        for name, average in self.ema.state_dict(keep_vars=True).items():
            value = source[name]
            if average.is_floating_point():
                averages.append(average)
                values.append(value.to(average.dtype))
            elif finite is None:
                average.copy_(value)
            else:
                average.copy_(torch.where(finite, value, average))
        if finite is None:
            torch._foreach_lerp_(averages, values, share)
        else:
            _gated_lerp(averages, values, share, finite)

    def update_attr(self, model: nn.Module) -> None:
        """Copy what is not a tensor of the state dict but belongs to a model: names, class count, settings, …"""
        model = unwrap(model)
        for name in ATTRIBUTES:
            if hasattr(model, name):
                setattr(self.ema, name, getattr(model, name))

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.ema.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ema.load_state_dict(state["model"])
        self.updates = state["updates"]


def build_ema(model: nn.Module, settings: Settings) -> ModelEMA:
    """The average that the settings ask for."""
    return ModelEMA(model, decay=decay_of(settings), tau=settings.ema_tau)


def decay_of(settings: Settings) -> float:
    """The decay that the settings ask for. With ema=False the average has no memory, so it is the model itself.

    Raises:
        SettingValueError: ema=False, and a decay was set as well.
    """
    if not settings.ema and settings.is_user_set("ema_decay") and settings.ema_decay > 0:
        raise SettingValueError(
            f"ema=False validates and saves the weights themselves, but ema_decay={settings.ema_decay} asks for an "
            "average of them: leave one of them out."
        )
    return settings.ema_decay if settings.ema else 0.0


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside `torch.compile` and DistributedDataParallel."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _gated_lerp(averages: list[Tensor], values: list[Tensor], share: float, finite: Tensor) -> None:
    """averages ← averages + share · (values − averages) where `finite`, decided on the device; a share of 1 is exact.

    Multiplying the move by 0 would not do, since 0 · NaN is NaN; and a `where` for each of 700 tensors would cost
    more launches than the rest of the step, hence one long vector per type.
    """
    by_type: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for average, value in zip(averages, values, strict=True):
        pair = by_type.setdefault(average.dtype, ([], []))
        pair[0].append(average)
        pair[1].append(value)
    for some_averages, some_values in by_type.values():
        old = torch.cat([a.reshape(-1) for a in some_averages])
        new = torch.lerp(old, torch.cat([v.reshape(-1) for v in some_values]), share)
        pieces = torch.where(finite, new, old).split([a.numel() for a in some_averages])
        shaped = [piece.view(a.shape) for piece, a in zip(pieces, some_averages, strict=True)]
        torch._foreach_copy_(some_averages, shaped)
