from __future__ import annotations

import numpy as np
import pytest

from sightline.data.transforms.multi_scale import multi_scale_shape, multi_scale_size


def test_sizes_are_multiples_in_range_and_all_are_met():
    sizes = [multi_scale_size(320, 0.5, 32, seed=0, epoch=1, iteration=i) for i in range(500)]
    assert set(sizes) == {160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 480}
    assert abs(np.mean(sizes) - 320) < 12


def test_a_function_of_seed_epoch_and_iteration():
    first = [multi_scale_size(640, 0.3, 32, seed=3, epoch=2, iteration=i) for i in range(20)]
    np.random.seed(0)
    assert first == [multi_scale_size(640, 0.3, 32, seed=3, epoch=2, iteration=i) for i in range(20)]
    assert first != [multi_scale_size(640, 0.3, 32, seed=3, epoch=3, iteration=i) for i in range(20)]


def test_off_is_the_size_itself():
    assert multi_scale_size(640, 0.0, 32, seed=0, epoch=0, iteration=0) == 640


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [((640, 640), 320, (320, 320)), ((448, 640), 480, (352, 480)), ((64, 640), 160, (32, 160))],
)
def test_rectangles_keep_their_form(shape, size, expected):
    assert multi_scale_shape(shape, size, 32) == expected
