from __future__ import annotations

import pytest

from sightline.data.sampler import EpochBatches, SampleKey, epoch_order


def _flat(batches):
    return [key.index for batch in batches for key in batch]


def test_an_epoch_has_each_image_once_in_an_order_of_seed_and_epoch():
    plan = EpochBatches(23, 4, shuffle=True, seed=1)
    plan.set_epoch(5)
    first = list(plan)
    assert sorted(_flat(first)) == list(range(23))
    assert [len(batch) for batch in first] == [4, 4, 4, 4, 4, 3]
    assert first == list(plan)
    plan.set_epoch(6)
    assert _flat(plan) != _flat(first)
    assert epoch_order(23, seed=2, epoch=5).tolist() != _flat(first)


def test_keys_carry_epoch_and_mixing():
    plan = EpochBatches(2, 2, shuffle=False)
    plan.set_epoch(7, mixing=False)
    assert list(plan) == [[SampleKey(7, 0, False), SampleKey(7, 1, False)]]


@pytest.mark.parametrize("count", [1, 7, 16, 23, 24])
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_training_on_several_ranks(count, world_size):
    """Equal lengths, every image, and each step sees the images it would see on one rank with the whole batch."""
    ranks = [EpochBatches(count, 2, shuffle=True, seed=3, rank=r, world_size=world_size) for r in range(world_size)]
    batches = [list(plan) for plan in ranks]
    assert len({len(one) for one in batches}) == 1
    assert all(len(one) == len(plan) for one, plan in zip(batches, ranks, strict=True))
    assert {index for one in batches for index in _flat(one)} == set(range(count))
    single = list(EpochBatches(count, 2 * world_size, shuffle=True, seed=3))
    for step, whole in enumerate(single):
        together = {key.index for one in batches for key in one[step]}
        assert {key.index for key in whole} <= together
        if len(whole) >= world_size:  # with fewer images than ranks some come twice
            assert sorted(key.index for one in batches for key in one[step]) == sorted(key.index for key in whole)


@pytest.mark.parametrize("count", [1, 7, 16, 23])
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_validation_on_several_ranks_repeats_nothing(count, world_size):
    ranks = [EpochBatches(count, 2, shuffle=False, rank=r, world_size=world_size) for r in range(world_size)]
    parts = [_flat(plan) for plan in ranks]
    assert [index for part in parts for index in part] == list(range(count))  # contiguous, in order
    assert all(len(list(plan)) == len(plan) for plan in ranks)
    assert max(len(plan) for plan in ranks) - min(len(plan) for plan in ranks) <= 1


def test_fixed_groups_stay_together_and_only_their_order_changes():
    groups = [[4, 2], [0, 1], [3]]
    plan = EpochBatches(5, 2, shuffle=True, groups=groups)
    orders = set()
    for epoch in range(20):
        plan.set_epoch(epoch)
        batches = [[key.index for key in batch] for batch in plan]
        assert sorted(map(tuple, batches)) == sorted(map(tuple, groups))
        orders.add(str(batches))
    assert len(orders) == 6  # all orders of three groups
    still = EpochBatches(5, 2, shuffle=False, groups=groups)
    assert [[key.index for key in batch] for batch in still] == groups


def test_drop_last():
    assert [len(batch) for batch in EpochBatches(7, 3, shuffle=True, drop_last=True)] == [3, 3]
    assert [len(batch) for batch in EpochBatches(2, 3, shuffle=True, drop_last=True)] == [2]  # never nothing at all
