"""From which numbers on the diagnosis speaks: every threshold with its reason, in one place."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any


def _limit(default: float, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Limits:
    """What the rules of `diagnosis/` compare with. `diagnosis_limits={name: number}` changes them."""

    flat_steps: float = _limit(40, "Optimizer steps before a loss may be called flat.")
    flat_epochs: float = _limit(3, "Epochs before a loss may be called flat.")
    flat_gain: float = _limit(0.04, "Share of its first value by which a training loss falls when a network learns.")
    stuck_steps: float = _limit(
        200, "The same where the size of the steps does not tell why: that needs more evidence."
    )
    flat_map: float = _limit(0.05, "mAP50 from which on a network has learnt something, whatever its loss does.")
    update_low: float = _limit(2e-5, "Size of a step over the size of the weights below which nothing moves.")
    flat_rise: float = _limit(0.05, "Rise over its first value, as a share, that a training loss must not keep.")
    update_wild: float = _limit(0.2, "Size of a step over that of the weights which nothing survives.")
    update_high: float = _limit(0.02, "The same ratio above which steps throw away what was learnt.")
    grad_norm: float = _limit(1000, "Gradient norm (median of an epoch, before clipping) that is too large.")
    grad_spike: float = _limit(20, "Largest gradient norm of an epoch over its median that is a spike.")
    not_finite: float = _limit(0.1, "Share of an epoch's steps that were not finite and had to be skipped.")
    plateau_epochs: float = _limit(50, "Epochs over which the validation loss must stand still.")
    plateau_std: float = _limit(0.001, "Standard deviation of the validation loss below which it stands still.")
    stagnation_epochs: float = _limit(100, "Epochs in which mAP50-95 must gain something.")
    stagnation_gain: float = _limit(0.005, "The least gain of mAP50-95 in those epochs.")
    stagnation_countdown: float = _limit(10, "Further epochs without gain before `on_plateau` acts.")
    overfit_epochs: float = _limit(8, "Epochs since the best validation loss before a run may be called over-fitted.")
    overfit_map: float = _limit(0.02, "mAP50-95 that a run must have had before it may be called over-fitted.")
    overfit_rise: float = _limit(0.1, "Rise of the validation loss over its best, as a share of it.")
    overfit_fall: float = _limit(0.1, "Fall of the training loss in the same epochs, as a share.")
    collapse_share: float = _limit(0.95, "Share of confident detections that one class takes, though others are there.")
    collapse_lead: float = _limit(0.2, "How much larger than its share of the labels that share must be.")
    collapse_objects: float = _limit(20, "Confident detections that it takes to speak of a collapse.")
    dead_score: float = _limit(0.002, "Best score in the whole validation set below which a head says nothing.")
    dead_before: float = _limit(0.1, "Best score that the head must have had before.")
    ema_lag: float = _limit(0.75, "Distance of the average from the weights, over the way that the weights have come.")
    loader_share: float = _limit(0.6, "Share of an epoch spent waiting for batches.")
    class_noise: float = _limit(0.25, "Share of the well-placed detections whose label has another class.")
    box_noise: float = _limit(0.3, "mAP50-95 over mAP50 below which boxes are found but do not fit.")
    box_noise_small: float = _limit(0.25, "The same for objects of few pixels.")
    box_noise_loose: float = _limit(0.3, "Share of the confident detections that then must fit no label.")
    box_noise_side: float = _limit(12, "Median side of the objects in pixels below which they are of few pixels.")
    noise_objects: float = _limit(40, "Detections that an estimate of label noise needs.")
    noise_map: float = _limit(
        0.05, "mAP50 that an estimate of box noise needs: a network that finds nothing tells none."
    )
    schedule_floor: float = _limit(0.015, "Learning rate over its peak below which a schedule has ended.")
    schedule_left: float = _limit(0.2, "Share of the epochs that are left then, for it to be too early.")
    duplicates: float = _limit(0.01, "Share of the validation images that also are training images.")

    @classmethod
    def named(cls, changes: Mapping[str, float] | None) -> Limits:
        """The defaults with these changes.

        Raises:
            KeyError: no limit has that name; the argument is the message.
        """
        known = [item.name for item in fields(cls)]
        for name in changes or {}:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3)
                hint = f"near names: {', '.join(near)}" if near else f"there are {', '.join(known)}"
                raise KeyError(f"there is no limit {name!r}; {hint}")
        return replace(cls(), **(changes or {}))

    def rows(self) -> list[tuple[str, float, str]]:
        """(name, value, meaning) of each, for tables."""
        values = asdict(self)
        return [(item.name, values[item.name], item.metadata["meaning"]) for item in fields(self)]
