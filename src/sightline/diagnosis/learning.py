"""Does it learn at all? Weights that do not move, steps that are too small or too large, an average left behind."""

from __future__ import annotations

import math

import numpy as np

from sightline.config.limits import Limits
from sightline.diagnosis.finding import Finding
from sightline.diagnosis.history import History


def everything_frozen(history: History, limits: Limits) -> Finding | None:
    """No parameter may move, or none does."""
    setup, number = history.setup, history.number
    remedy = "Check freeze=, requires_grad in your callbacks, and that the optimizer holds this network's parameters."
    if setup.parameters and setup.trainable == 0:
        return Finding(
            "everything_frozen", "error", f"none of {setup.parameters:,} parameters may move", remedy, number
        )
    if not len(history):
        return None
    last = history.last
    if not last.steps or last.update != 0 or last.not_finite:
        return None
    if last.lr == 0:
        remedy = "The learning rate is 0: set lr0, or look at the scheduler."
    gradient = "" if math.isnan(last.grad_norm) else f" although their gradient has a norm of {last.grad_norm:.3g}"
    evidence = f"{last.steps} optimizer steps at lr {last.lr:.2g} have not moved the weights{gradient}"
    return Finding("everything_frozen", "error", evidence, remedy, number)


def dead_head(history: History, limits: Limits) -> Finding | None:
    """The head gets no gradient, does not move, or has fallen silent."""
    if not len(history):
        return None
    last = history.last
    if last.objects == 0 or last.all_bad or not last.steps:
        return None
    remedy = "Check what your callback or model does to the head (zeroed or detached layers, a bias far off, freeze)."
    if last.head_gradient == 0 and last.body_gradient != 0:
        evidence = f"no gradient reaches the head's weights, with {last.objects} objects in the batches"
        return Finding("dead_head", "error", evidence, remedy, history.number)
    if last.update_head == 0 and last.update_body > 0:
        evidence = f"the head does not move while the rest does (by {last.update_body:.1e} of its size a step)"
        return Finding("dead_head", "error", evidence, remedy, history.number)
    before = [epoch.top_score for epoch in history.epochs[:-1] if not math.isnan(epoch.top_score)]
    if before and last.top_score < min(limits.dead_score, 0.1 * max(before)):
        evidence = f"the best score in the whole validation set is {last.top_score:.1e}; it was {max(before):.1e}"
        return Finding("dead_head", "warning", evidence, f"Lower lr0. {remedy}", history.number)
    return None


def loss_flat(history: History, limits: Limits) -> Finding | None:
    """The training loss has not fallen since the start; gradient and update norms tell why."""
    if len(history) < limits.flat_epochs or history.number <= math.ceil(history.setup.warmup_epochs):
        return None
    if history.steps_so_far() < limits.flat_steps or history.epochs[0].epoch != 1:
        return None
    losses = history.column("total_train_loss")
    if not np.isfinite(losses[[0, -2, -1]]).all() or losses[0] <= 0:
        return _no_number(history)
    gain = 1 - losses[-2:].mean() / losses[0]
    best, now = np.nanmax([0.0, *history.column("map50")]), np.nan_to_num(history.last.map50)
    if gain >= limits.flat_gain or now >= max(limits.flat_map, 0.5 * best):
        return None
    fell = f"the training loss went from {losses[0]:.3g} to {losses[-1]:.3g} in {len(history)} epochs"
    update = np.nanmedian([np.nan, *(epoch.update for epoch in history.after_warmup())])
    step = "" if math.isnan(update) else f", a step moves the weights by {update:.1e} of their size"
    norm = "" if math.isnan(history.last.grad_norm) else f", the gradient norm is {history.last.grad_norm:.3g}"
    evidence = f"{fell}{step}{norm}"
    lr = history.column("lr")[~np.isnan(history.column("lr"))]
    rate = f"lr0={history.setup.lr0:.2g}" if len(lr) else "lr0"
    if update < limits.update_low and not history.last.not_finite:
        remedy = f"The learning rate is too low: {rate} → try {_higher(history, update)}."
        return Finding("lr_too_low", "error", evidence, remedy, history.number)
    if update > limits.update_high or gain < -0.05 or best > now + 0.2:
        remedy = f"The learning rate is too high: {rate} → a tenth of it, or a longer warm-up (warmup_epochs)."
        return Finding("lr_too_high", "error", evidence, remedy, history.number)
    remedy = (
        "The steps are of a sane size, so look at what they learn from: `sightline doctor data`, train_batch*.jpg, and "
        "`sightline doctor overfit`, which shows whether one batch can be learnt."
    )
    return Finding("loss_flat", "warning", evidence, remedy, history.number)


def _no_number(history: History) -> Finding | None:
    """The loss itself is NaN or infinite."""
    losses = history.column("total_train_loss")
    if (
        not np.isnan(losses[-2:]).all()
        or not any(epoch.train_loss for epoch in history.epochs)
        or history.last.not_finite
    ):
        return None
    evidence = "the training loss is not a number any more"
    return Finding("lr_too_high", "error", evidence, "Lower lr0 tenfold, and check the labels.", history.number)


def _higher(history: History, update: float) -> str:
    """A learning rate at which a step would move the weights by a thousandth."""
    if math.isnan(history.setup.lr0) or not update > 0:
        return "0.01 for SGD, 0.001 for AdamW"
    return f"{min(history.setup.lr0 * 1e-3 / update, 0.01):.0e}"


def ema_not_following(history: History, limits: Limits) -> Finding | None:
    """The average, which is what is validated and saved, has stayed near where the run began."""
    if len(history) < 2 or history.steps_so_far() < limits.flat_steps:
        return None
    lags = history.column("ema_lag")[-2:]
    if not (lags > limits.ema_lag).all() or history.last.update == 0:
        return None
    evidence = (
        f"after {history.steps_so_far():.0f} steps the average of the weights, which is validated and saved, lags "
        f"behind them by {lags[-1]:.0%} of the way they have come"
    )
    remedy = "It is too slow for a run of this length: leave ema_decay and ema_tau out, or lower them, or ema=False."
    return Finding("ema_not_following", "warning", evidence, remedy, history.number)


RULES = (everything_frozen, dead_head, loss_flat, ema_not_following)
