"""Repeat factors against the slow, obvious reading of the paper, and what an epoch makes of them."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from sightline.data.index import LabelIndex, PathList, ScanReport
from sightline.data.repeat import repeat_counts, repeat_factors, repeated_length
from sightline.data.sampler import EpochBatches, SampleKey
from sightline.data.transforms.guests import EVEN, Guests

# Classes of the objects of each image: 0 is everywhere, 1 in three of ten, 2 in one, 3 nowhere; the last is background.
IMAGES = [[0], [0, 0, 1], [0, 1], [0], [0, 1, 2, 2], [0], [0], [0, 0], [0], []]


def index_of(images: list[list[int]]) -> LabelIndex:
    content, offsets = PathList.pack(f"{i}.png" for i in range(len(images)))
    rows = np.zeros((sum(map(len, images)), 5), np.float32)
    rows[:, 0] = [class_ for image in images for class_ in image]
    arrays = {
        "shapes": np.full((len(images), 2), 64, np.int32),
        "rows": rows,
        "row_offsets": np.cumsum([0, *map(len, images)]),
        "points": np.zeros((0, 2), np.float32),
        "point_offsets": np.zeros(1, np.int64),
        "path_bytes": content,
        "path_offsets": offsets,
    }
    return LabelIndex(arrays, ScanReport())


def slow_factors(images: list[list[int]], threshold: float) -> list[float]:
    """LVIS, appendix B, word by word."""

    def share(class_: int) -> float:
        return sum(class_ in image for image in images) / len(images)

    def of_class(class_: int) -> float:
        return max(1.0, math.sqrt(threshold / share(class_)))

    return [max((of_class(class_) for class_ in image), default=1.0) for image in images]


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.4, 1.0])
def test_factors_follow_the_formula(threshold: float):
    factors = repeat_factors(index_of(IMAGES), threshold, nc=4)
    assert factors.images.tolist() == pytest.approx(slow_factors(IMAGES, threshold))
    assert factors.classes[2] == pytest.approx(max(1, math.sqrt(threshold / 0.1)))
    assert factors.classes[3] == 1  # no image to repeat


def test_many_classes_in_many_images_follow_the_formula():
    rng = np.random.default_rng(0)
    images = [rng.zipf(1.5, rng.integers(0, 6)).clip(max=30).tolist() for _ in range(200)]
    assert repeat_factors(index_of(images), 0.3, nc=31).images.tolist() == pytest.approx(slow_factors(images, 0.3))


def test_an_epoch_has_one_length_and_each_image_its_share():
    factors = np.array(slow_factors(IMAGES, 0.4))
    total = repeated_length(factors)
    assert total == math.ceil(sum(factors))
    counts = np.array([repeat_counts(factors, seed=1, epoch=epoch) for epoch in range(4000)])
    assert (counts.sum(axis=1) == total).all()
    scaled = factors * total / factors.sum()
    assert (counts >= np.floor(scaled)).all()
    assert (counts <= np.ceil(scaled)).all()
    assert (counts >= 1).all()
    np.testing.assert_allclose(counts.mean(axis=0), scaled, atol=0.03)  # 4 standard deviations of 4000 throws
    # Chance decides for each image by itself: two with the same fraction do not always go together.
    assert 0 < np.mean(counts[:, 1] != counts[:, 2]) < 1
    assert (repeat_counts(factors, seed=2, epoch=0) != counts[0]).any() or (
        repeat_counts(factors, seed=2, epoch=1) != counts[1]
    ).any()


@pytest.mark.parametrize("factors", [np.ones(7), np.array([1.0, 2.0, 3.0]), np.array([1.0])])
def test_whole_factors_leave_nothing_to_chance(factors: np.ndarray):
    for epoch in range(50):
        assert repeat_counts(factors, seed=0, epoch=epoch).tolist() == factors.tolist()


def test_no_images_no_samples():
    assert repeat_counts(np.zeros(0), seed=0, epoch=0).tolist() == []
    assert len(repeat_factors(index_of([]), 0.5, nc=2).images) == 0


@pytest.mark.parametrize("threshold", [0.4, 1.0])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_together_have_the_batches_of_one(threshold: float, world_size: int):
    factors = repeat_factors(index_of(IMAGES), threshold, nc=4).images
    single = EpochBatches(10, 2 * world_size, shuffle=True, seed=3, repeat_factors=factors)
    ranks = [
        EpochBatches(10, 2, shuffle=True, seed=3, rank=rank, world_size=world_size, repeat_factors=factors)
        for rank in range(world_size)
    ]
    for epoch in range(3):
        for plan in [single, *ranks]:
            plan.set_epoch(epoch)
        whole, parts = list(single), [list(plan) for plan in ranks]
        assert all(len(plan) == len(part) for plan, part in zip(ranks, parts, strict=True))
        assert len({len(part) for part in parts}) == 1
        for step, batch in enumerate(whole):
            together = [key for part in parts for key in part[step]]
            assert set(batch) <= set(together)
            if len(batch) == 2 * world_size:
                assert sorted(batch) == sorted(together)
        counts = repeat_counts(factors, seed=3, epoch=epoch)
        keys = [key for batch in whole for key in batch]
        assert Counter(key.index for key in keys) == Counter(dict(enumerate(counts.tolist())))
        assert len(set(keys)) == len(keys)  # no two samples of an epoch are the same
        assert single.batches(epoch) == [[key.index for key in batch] for batch in whole]


def test_a_second_time_has_another_chance_and_the_first_the_one_it_had():
    first, second = SampleKey(2, 5), SampleKey(2, 5, repetition=1)
    assert first.generator(7).random() == np.random.default_rng([7, 2, 5]).random()
    draws = {key.generator(7).random() for key in (first, second, SampleKey(2, 5, repetition=2))}
    assert len(draws) == 3
    assert second.generator(7).random() == second.generator(7).random()


def test_without_factors_nothing_changes():
    plan = EpochBatches(10, 4, shuffle=True, seed=1)
    ones = EpochBatches(10, 4, shuffle=True, seed=1, repeat_factors=np.ones(10))
    assert list(plan) == list(ones)  # and even the order is the same


def test_guests_come_by_weight():
    weights = np.array([1.0, 4.0, 1.0])
    drawn = Guests.weighted(weights).draw(np.random.default_rng(0), images=3, number=6000)
    np.testing.assert_allclose(np.bincount(drawn) / 6000, weights / 6, atol=0.025)
    a, b = np.random.default_rng(0), np.random.default_rng(0)
    assert EVEN.draw(a, images=9, number=3) == b.integers(9, size=3).tolist()
