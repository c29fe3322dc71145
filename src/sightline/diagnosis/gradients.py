"""Gradients that are too large, and those that are no numbers."""

from __future__ import annotations

import math

import numpy as np

from sightline.config.limits import Limits
from sightline.diagnosis.finding import Finding
from sightline.diagnosis.history import History

RECENT = 5  # epochs in which a spike is compared with others
HUGE = 5  # times the limit: that is no chance even once
SETTLED = 2  # epochs in a row after which a large gradient is no accident


def not_finite(history: History, limits: Limits) -> Finding | None:
    """Steps were skipped because loss or gradient overflowed."""
    if not len(history):
        return None
    last = history.last
    if not last.steps or not last.not_finite:
        return None
    share = last.not_finite / last.steps
    fp16 = history.setup.precision == "fp16"
    # A run in fp16 begins with a scale that is too large on purpose, and finds the right one by overflowing.
    if share <= limits.not_finite or (fp16 and history.number == 1 and share < 0.5):
        return None
    evidence = f"{last.not_finite} of {last.steps} steps had a loss or gradient that is not finite and were skipped"
    if fp16:
        scale = "" if math.isnan(last.scale) else f" (the scale of the gradients is down to {last.scale:.3g})"
        remedy = "fp16 ends at 65,504: use amp=bf16 where the GPU has it, else amp=False, or lower lr0."
        return Finding("fp16_overflow", "warning", evidence + scale, remedy, history.number)
    grave = "error" if last.all_bad else "warning"
    remedy = "Lower lr0, keep clip_grad on, and check images and labels of the batches for values that are no numbers."
    return Finding("not_finite", grave, evidence, remedy, history.number)  # type: ignore[arg-type]


def exploding_gradient(history: History, limits: Limits) -> Finding | None:
    """The usual gradient norm is too large, beyond the first epochs of a network that starts from nothing."""
    settled = history.after_warmup()[-SETTLED:]
    if len(settled) < SETTLED or history.steps_so_far() < limits.flat_steps:
        return None
    norms = [epoch.grad_norm for epoch in settled]
    if not min(norms) > limits.grad_norm:
        return None
    evidence = f"the gradient norm of a usual step is {norms[-1]:.3g} (before clipping), after the warm-up"
    remedy = "Lower lr0, keep clip_grad (10 by default), and check the gains of the loss (box, cls, dfl)."
    return Finding("exploding_gradient", "warning", evidence, remedy, history.number)


def gradient_spikes(history: History, limits: Limits) -> Finding | None:
    """Single steps pull many times harder than the others. One of them is chance, unless it is huge."""
    if len(history) < 2:
        return None
    last = history.last
    if (last.steps or 0) < 4 or not last.grad_norm > 0:
        return None
    # With few steps an epoch its median says little: that of the last epochs together says more.
    usual = max(float(np.nanmedian(history.column("grad_norm")[-RECENT:])), 1e-12)
    ratios = history.column("grad_norm_max")[1:][-RECENT:] / usual
    often = int((ratios > limits.grad_spike).sum())
    if not ratios[-1] > limits.grad_spike or (often < 2 and not ratios[-1] > HUGE * limits.grad_spike):
        return None
    evidence = f"a step had a gradient norm of {last.grad_norm_max:.3g}, {ratios[-1]:.0f} times that of a usual step"
    if often > 1:
        evidence += f"; there were such steps in {often} of the last {len(ratios)} epochs"
    remedy = (
        "Look for a batch with odd images or labels (`sightline doctor data`); clip_grad=10 keeps it from doing harm."
    )
    return Finding("gradient_spikes", "warning", evidence, remedy, history.number)


RULES = (not_finite, exploding_gradient, gradient_spikes)
