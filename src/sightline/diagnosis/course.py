"""The course of a longer run: over-fitting, plateau, no gain any more, a schedule that has ended, waiting for data."""

from __future__ import annotations

import numpy as np

from sightline.config.limits import Limits
from sightline.diagnosis.finding import Finding
from sightline.diagnosis.history import History

LAST = 3  # epochs over which a noisy value is averaged


def overfitting(history: History, limits: Limits) -> Finding | None:
    """The validation loss rises and the score falls while the training loss goes on falling."""
    val, train, score = (history.column(name) for name in ("total_val_loss", "total_train_loss", "map"))
    if np.isfinite(val).sum() < limits.overfit_epochs + LAST:
        return None
    best = int(np.nanargmin(val))
    if len(val) - 1 - best < limits.overfit_epochs or not np.isfinite(train[best]):
        return None
    rise = np.nanmean(val[-LAST:]) / val[best] - 1
    fall = 1 - np.nanmean(train[-LAST:]) / train[best]
    peak, now = np.nanmax(score, initial=0.0), np.nanmax(score[-LAST:], initial=0.0)
    if peak < limits.overfit_map:  # what has not learnt anything yet cannot have learnt it by heart
        return None
    if rise < limits.overfit_rise or fall < limits.overfit_fall or now > 0.98 * peak:
        return None
    evidence = (
        f"since epoch {history.epochs[best].epoch} the validation loss rose by {rise:.0%} while the training loss fell "
        f"by {fall:.0%}; mAP50-95 is {now:.3f} after {peak:.3f}"
    )
    remedy = (
        "best.pt holds the better epoch. More data or augmentation, weight_decay, freeze=backbone, or fewer epochs."
    )
    return Finding("overfitting", "warning", evidence, remedy, history.number)


def val_plateau(history: History, limits: Limits) -> Finding | None:
    """The validation loss stands still."""
    val = history.column("total_val_loss")
    val, count = val[np.isfinite(val)], int(limits.plateau_epochs)
    if count < 2 or len(val) < count or not val[-count:].std() < limits.plateau_std:
        return None
    evidence = (
        f"the validation loss stands at {val[-1]:.4g}: its spread over {count} epochs is {val[-count:].std():.1e}"
    )
    return Finding("val_plateau", "note", evidence, _what_helps(history), history.number)


def stagnation(history: History, limits: Limits) -> Finding | None:
    """mAP has gained (almost) nothing for long."""
    score = history.column("map")
    score, count = score[np.isfinite(score)], int(limits.stagnation_epochs)
    if count < 1 or len(score) <= count:
        return None
    before, since = score[:-count].max(), score[-count:].max()
    if since - before >= limits.stagnation_gain:
        return None
    evidence = f"mAP50-95 gained {max(since - before, 0):.4f} in {count} epochs ({before:.4f} → {since:.4f})"
    return Finding("map_stagnation", "note", evidence, _what_helps(history), history.number)


def _what_helps(history: History) -> str:
    if history.left == 0:
        return "More epochs of the same will not help: other data, a larger model or imgsz might."
    return (
        f"The {history.left} epochs that are left may bring little: on_plateau=stop ends such a run, "
        "on_plateau=restart lifts the learning rate again."
    )


def schedule_ended(history: History, limits: Limits) -> Finding | None:
    """The learning rate has come to its end long before the run."""
    # Not those of the warm-up, in which biases may start far above everything else.
    rates = np.array([epoch.lr for epoch in history.after_warmup()])
    if not np.isfinite(rates).any():
        return None
    peak, now = np.nanmax(rates), rates[-1]
    left = history.left / max(history.setup.epochs, 1)
    if peak <= 0 or not now < limits.schedule_floor * peak or left < limits.schedule_left or history.left < 2:
        return None
    evidence = (
        f"the learning rate is down to {now:.1e} ({now / peak:.1%} of its peak) with {history.left} of "
        f"{history.setup.epochs} epochs left"
    )
    remedy = (
        "Nothing more will be learnt: stretch the schedule over the whole run (epochs, lrf, your scheduler), or stop."
    )
    return Finding("schedule_ended", "warning", evidence, remedy, history.number)


def loader_bound(history: History, limits: Limits) -> Finding | None:
    """The device waits for images. The first epoch fills caches and does not count."""
    shares = history.column("loader_share")[1:][-2:]
    if len(shares) < 2 or not (shares > limits.loader_share).all():
        return None
    evidence = f"{shares[-1]:.0%} of the time goes into waiting for batches"
    remedy = "cache=ram (or disk), smaller images on the disk, fewer augmentations, and on a GPU more workers."
    return Finding("loader_bound", "warning", evidence, remedy, history.number)


RULES = (overfitting, val_plateau, stagnation, schedule_ended, loader_bound)
