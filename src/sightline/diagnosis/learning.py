"""Does it learn at all? Weights that do not move, steps that are too small or too large, an average left behind."""

from __future__ import annotations

import math

import numpy as np

from sightline.config.limits import Limits
from sightline.diagnosis.finding import Finding
from sightline.diagnosis.history import History

MEASURE = "`sightline lr-find` with the same settings measures one."


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
    # A warm-up begins at a rate of 0, so its first step moves nothing; with one batch an epoch that is a whole epoch.
    if number <= math.ceil(setup.warmup_epochs) and not (number > 1 and history.epochs[-2].update == 0):
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
    # A fresh network's scores may well sink at first; only one that had something to say can fall silent.
    if before and max(before) >= limits.dead_before and last.top_score < limits.dead_score:
        evidence = f"the best score in the whole validation set is {last.top_score:.1e}; it was {max(before):.1e}"
        return Finding("dead_head", "warning", evidence, f"Lower lr0. {remedy}", history.number)
    return None


def lr_too_high(history: History, limits: Limits) -> Finding | None:
    """Steps as large as the weights themselves, or large ones and a loss that does not fall; and nothing is found."""
    if len(history) < 2 or history.last.all_bad:
        return None
    best, now = _scores(history)
    if now >= max(limits.flat_map, 0.5 * best):
        return None
    updates, losses = history.column("update"), history.column("total_train_loss")
    largest = np.nanmax([0.0, *updates])
    settled = _settled(history, limits)
    usual = float(np.nanmedian(updates) if np.isfinite(updates).any() else math.nan)
    # A loss that rises under steps of a usual size has another reason.
    rose = losses[-2:].min() > (1 + limits.flat_rise) * losses[0] and not usual < limits.update_high / 4
    # From scratch, with a high rate that suits, nothing is found for ten epochs either; but the loss falls.
    large = usual > limits.update_high and _gain(losses) < limits.flat_gain
    if largest <= limits.update_wild and not (settled and (rose or large)):
        return None
    found = f"mAP50 is {now:.3f}" + (f" after {best:.3f}" if best > now else "")
    evidence = f"a step moved the weights by {largest:.1e} of their size, {_course(losses, len(history))}, {found}"
    remedy = (
        f"The learning rate is too high: lr0={history.setup.lr0:.2g} → a tenth of it, or a longer warm-up. {MEASURE}"
    )
    return Finding("lr_too_high", "error", evidence, remedy, history.number)


def lr_too_low(history: History, limits: Limits) -> Finding | None:
    """All steps together have hardly moved the weights, and nothing is found."""
    best, now = _scores(history)
    if not _settled(history, limits) or max(best, now) >= limits.flat_map:
        return None
    update = float(np.nanmedian([np.nan, *(epoch.update for epoch in history.after_warmup())]))
    if not 0 < update < limits.update_low or history.last.not_finite:
        return None
    losses, norm = history.column("total_train_loss"), history.last.grad_norm
    evidence = (
        f"a step moves the weights by {update:.1e} of their size although the gradient norm is {norm:.3g}; "
        f"{_course(losses, len(history))}"
    )
    remedy = f"The learning rate is too low: lr0={history.setup.lr0:.2g} → try {_higher(history, update)}. {MEASURE}"
    return Finding("lr_too_low", "error", evidence, remedy, history.number)


def loss_flat(history: History, limits: Limits) -> Finding | None:
    """The training loss has not fallen since the start, and the size of the steps does not tell why."""
    if not _settled(history, limits) or history.steps_so_far() < limits.stuck_steps:
        return None
    losses = history.column("total_train_loss")
    best, now = _scores(history)
    if not np.isfinite(losses[[0, -2, -1]]).all() or losses[0] <= 0:
        return None
    if _gain(losses) >= limits.flat_gain or now >= max(limits.flat_map, 0.5 * best):
        return None
    update = history.last.update
    step = "" if math.isnan(update) else f"; a step moves the weights by {update:.1e} of their size, which is usual"
    remedy = (
        "Look at what it learns from: `sightline doctor data`, train_batch*.jpg, and `sightline doctor overfit`, which "
        f"shows whether one batch can be learnt. Without those in doubt, try another lr0. {MEASURE}"
    )
    return Finding("loss_flat", "warning", _course(losses, len(history)) + step, remedy, history.number)


def _settled(history: History, limits: Limits) -> bool:
    """Whether enough has happened since the start for a loss to have fallen."""
    enough = history.steps_so_far() >= limits.flat_steps and len(history) >= limits.flat_epochs
    return enough and history.number > math.ceil(history.setup.warmup_epochs) and history.epochs[0].epoch == 1


def _scores(history: History) -> tuple[float, float]:
    """Best mAP50 before the last epoch, and the last one."""
    scores = [0.0 if math.isnan(epoch.map50) else epoch.map50 for epoch in history.epochs]
    known = [epoch.map50 for epoch in history.epochs if not math.isnan(epoch.map50)]
    return max(scores[:-1], default=0.0), known[-1] if known else 0.0


def _gain(losses: np.ndarray) -> float:
    """The part of the first loss that is gone by the last two epochs."""
    return float((losses[0] - losses[-2:].mean()) / abs(losses[0])) if losses[0] else 0.0


def _course(losses: np.ndarray, epochs: int) -> str:
    return f"the training loss went from {losses[0]:.3g} to {losses[-1]:.3g} in {epochs} epochs"


def loss_not_a_number(history: History, limits: Limits) -> Finding | None:
    """The loss is NaN or infinite, although no step was refused."""
    if not len(history) or not history.last.train_loss or history.last.not_finite:
        return None
    if math.isfinite(history.last.total_train_loss):
        return None
    remedy = "Lower lr0, and look for labels or images that are no numbers."
    return Finding("not_finite", "error", "the training loss is not a number any more", remedy, history.number)


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


RULES = (everything_frozen, dead_head, lr_too_high, lr_too_low, loss_flat, loss_not_a_number, ema_not_following)
