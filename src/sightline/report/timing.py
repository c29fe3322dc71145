"""Where the time of a run went, and what would make it faster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

# In the order in which they happen. "other" is what no part explains: checkpoints, callbacks, pictures.
PARTS = ("wait for batches", "forward", "backward", "optimizer", "validate", "other")
SLOW_LOADER = 0.25  # of the training time; below, faster loading would hardly be felt
MUCH_VALIDATION = 0.35  # of all time


def timing_of(events: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Seconds by part over all epochs but the first, which also builds caches and warms up; None without records.

    Returns:
        `parts`: name → seconds, `epochs`: how many were counted, `verdict`: one sentence.
    """
    by_epoch = {
        event["epoch"]: event["seconds"]
        for event in events
        if event["event"] == "trace" and isinstance(event.get("epoch"), int) and isinstance(event.get("seconds"), dict)
    }
    numbers = sorted(by_epoch)
    counted = numbers[1:] or numbers
    if not counted:
        return None
    parts = {part: math.fsum(_seconds(by_epoch[number].get(part)) for number in counted) for part in PARTS}
    return {"parts": parts, "epochs": len(counted), "verdict": verdict(parts)}


def verdict(parts: Mapping[str, float]) -> str:
    """What to do about the largest part, if anything can be done."""
    total = math.fsum(parts.values())
    if total <= 0:
        return "No time was recorded."
    training = total - parts["validate"]
    waiting = parts["wait for batches"] / max(training, 1e-9)
    if waiting > SLOW_LOADER:
        return (
            f"The loader is the bottleneck: {waiting:.0%} of the training time is spent waiting for batches. "
            "More workers, cache=ram or cache=disk, or smaller pictures on the disk help; a faster device does not."
        )
    validating = parts["validate"] / total
    if validating > MUCH_VALIDATION:
        return (
            f"Validation takes {validating:.0%} of the time. val_interval=5 would give most of it back, at the price "
            "of knowing the best epoch less exactly."
        )
    computing = (parts["forward"] + parts["backward"] + parts["optimizer"]) / total
    return (
        f"The network is the bottleneck, as it should be: {computing:.0%} of the time is forward, backward and "
        f"optimizer, {parts['wait for batches'] / total:.0%} waiting for batches."
    )


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0
