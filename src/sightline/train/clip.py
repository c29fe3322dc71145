"""Gradient clipping: the settings `clip_grad` (also `clip_grad_norm`) and `clip_grad_value`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from sightline.config.settings import Settings


def clip_gradients(
    parameters: Iterable[nn.Parameter], *, max_norm: float | None, max_value: float | None = None
) -> Tensor:
    """Cut each value to ± `max_value`, then scale all of them so that their norm is at most `max_norm`; 0 is off.

    Returns:
        () the norm of the gradient as it came in, before anything was cut: infinite or NaN if one value is, which
        cutting would hide.
    """
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    if not max_value:
        return nn.utils.clip_grad_norm_(parameters, max_norm=max_norm or math.inf)
    norm = nn.utils.clip_grad_norm_(parameters, max_norm=math.inf)  # only measures
    nn.utils.clip_grad_value_(parameters, max_value)
    if max_norm:
        nn.utils.clip_grad_norm_(parameters, max_norm=max_norm)
    return norm


def describe(settings: Settings, *, stepped_by: str | None = None) -> dict[str, str]:
    """Setting → what it does in this run, for the summary; only what somebody set.

    Args:
        stepped_by: the trainer class whose own `optimizer_step` decides instead.
    """
    lines = {
        "clip_grad": f"norm of the gradient at most {settings.clip_grad:g}" if settings.clip_grad else "off",
        "clip_grad_value": f"each value at most {settings.clip_grad_value:g}" if settings.clip_grad_value else "off",
    }
    given = {name: line for name, line in lines.items() if settings.is_user_set(name)}
    return dict.fromkeys(given, f"left to {stepped_by}.optimizer_step") if stepped_by else given
