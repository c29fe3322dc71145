"""Where the time of a run went, and what would make it faster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

# In the order in which they happen. "load" and "augment" are the waiting for batches, divided as the work on them was;
# where that was not measured (a loader of the user's own) it stays "wait for batches". "other" is what no part
# explains: checkpoints, callbacks, pictures.
WAITING = ("load", "augment", "wait for batches")
PARTS = (*WAITING, "forward", "backward", "optimizer", "validate", "other")
SLOW_LOADER = 0.25  # of the training time; below, faster loading would hardly be felt
MUCH_VALIDATION = 0.35  # of all time


def timing_of(events: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Seconds by part over all epochs but the first, which also builds caches and warms up; None without records.

    Returns:
        `parts`: name → seconds of the clock; `work`: "load" and "augment" → seconds of work on the batches, in all
        worker processes together, and their number as "workers", or None; `epochs`: how many were counted;
        `verdict`: what to do.
    """
    by_epoch = {
        event["epoch"]: event
        for event in events
        if event["event"] == "trace" and isinstance(event.get("epoch"), int) and isinstance(event.get("seconds"), dict)
    }
    numbers = sorted(by_epoch)
    counted = [by_epoch[number] for number in numbers[1:] or numbers]
    if not counted:
        return None
    parts = {part: math.fsum(_seconds(event["seconds"].get(part)) for event in counted) for part in PARTS}
    work = _work(counted)
    if work is not None:
        waited, parts["wait for batches"] = parts["wait for batches"], 0.0
        reading = work["load"] / (work["load"] + work["augment"])
        parts |= {"load": waited * reading, "augment": waited * (1 - reading)}
    return {"parts": parts, "work": work, "epochs": len(counted), "verdict": verdict(parts)}


def verdict(parts: Mapping[str, float]) -> str:
    """What to do about the largest part, if anything can be done.

    Args:
        parts: seconds of each of `PARTS`; a part that is not there took none.
    """
    total = math.fsum(parts.values())
    if total <= 0:
        return "No time was recorded."
    validating = parts.get("validate", 0.0) / total
    waiting = math.fsum(parts.get(part, 0.0) for part in WAITING)
    training_waits = waiting / max(total * (1 - validating), 1e-9)
    if training_waits > SLOW_LOADER:
        return (
            f"The loader is the bottleneck: {training_waits:.0%} of the training time is spent waiting for batches. "
            f"{_faster_loading(parts)} A faster device does not help."
        )
    if validating > MUCH_VALIDATION:
        return (
            f"Validation takes {validating:.0%} of the time. val_interval=5 would give most of it back, at the price "
            "of knowing the best epoch less exactly."
        )
    computing = math.fsum(parts.get(part, 0.0) for part in ("forward", "backward", "optimizer")) / total
    return (
        f"The network is the bottleneck, as it should be: {computing:.0%} of the time is forward, backward and "
        f"optimizer, {waiting / total:.0%} waiting for batches."
    )


def _faster_loading(parts: Mapping[str, float]) -> str:
    load, augment = parts.get("load", 0.0), parts.get("augment", 0.0)
    if load + augment == 0:
        return "More workers, cache=ram or cache=disk, or smaller pictures on the disk help."
    if load >= augment:
        return (
            f"{load / (load + augment):.0%} of the work on them is reading: cache=ram or cache=disk, smaller pictures "
            "on the disk, or more workers help."
        )
    return (
        f"{augment / (load + augment):.0%} of the work on them is augmenting: more workers, a smaller imgsz or fewer "
        "augmentations help; a cache saves only the reading."
    )


def _work(counted: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    records = [event["work"] for event in counted if isinstance(event.get("work"), dict)]
    work = {name: math.fsum(_seconds(record.get(name)) for record in records) for name in ("load", "augment")}
    if work["load"] + work["augment"] <= 0:
        return None
    return {**work, "workers": _seconds(records[-1].get("workers"))}


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0
