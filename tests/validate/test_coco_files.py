"""What ranks collected for the COCO evaluation, put together, is what one process collects."""

from __future__ import annotations

from typing import Any

import numpy as np

from sightline.validate.coco_files import CocoRecord

NAMES = {0: "red", 1: "blue"}


def add(record: CocoRecord, number: int) -> None:
    rng = np.random.default_rng(number)
    found, true = rng.integers(0, 4), rng.integers(1, 4)
    truth = rng.uniform(5, 30, (true, 4))
    record.add(
        f"images/{number}.png",
        (64, 64),
        boxes=np.concatenate([truth, rng.uniform(5, 30, (found, 4))]),
        scores=rng.uniform(0, 1, found + true),
        classes=rng.integers(0, 2, found + true),
        true_boxes=truth,
        true_classes=rng.integers(0, 2, true),
    )


def recorded(numbers: Any) -> CocoRecord:
    record = CocoRecord(NAMES)
    for number in numbers:
        add(record, number)
    return record


def test_the_parts_of_the_ranks_make_the_whole():
    whole = recorded(range(7))
    parts = [recorded(numbers).state_dict() for numbers in (range(4), (), range(4, 7))]
    merged = recorded(range(4))
    merged.reset()
    for part in parts:
        merged.merge(part)
    assert merged.rows == whole.rows
    numbers = merged.evaluate(None)
    assert numbers == whole.evaluate(None)
    assert numbers["AP"] > 0
