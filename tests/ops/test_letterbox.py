from __future__ import annotations

import numpy as np
import pytest

from sightline.ops.boxes import scale_boxes
from sightline.ops.letterbox import letterbox_geometry, rect_batches


def test_a_wide_image_by_hand():
    geometry = letterbox_geometry((240, 480), (100, 100))  # scaled to 100 × 50, so 50 rows are left
    assert geometry.new_wh == (100, 50)
    assert geometry.pad == (0, 25, 0, 25)
    assert geometry.out_hw == (100, 100)
    assert geometry.boxes(np.array([[0.0, 0.0, 480.0, 240.0]]))[0] == pytest.approx([0, 25, 100, 75])


def test_an_odd_border_puts_the_extra_pixel_right_and_below():
    assert letterbox_geometry((99, 100), (100, 100)).pad == (0, 0, 0, 1)
    assert letterbox_geometry((50, 50), (61, 64), scaleup=False).pad == (7, 5, 7, 6)


def test_a_hair_of_an_image_keeps_one_pixel():
    assert letterbox_geometry((1, 1000), (64, 64)).new_wh == (64, 1)


@pytest.mark.parametrize("options", [{}, {"auto": True}, {"scaleup": False}, {"center": False}, {"scale_fill": True}])
def test_boxes_come_back(options):
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = (int(v) for v in rng.integers(5, 900, 2))
        geometry = letterbox_geometry((height, width), (320, 416), **options)
        boxes = (np.sort(rng.uniform(0, 1, (4, 2, 2)), axis=1) * [width, height]).reshape(4, 4)
        framed = geometry.boxes(boxes)
        assert (framed >= -1e-6).all()
        assert (framed <= np.array([*geometry.out_hw[::-1]] * 2) + 1).all()  # new_wh is rounded, the ratio is not
        back = scale_boxes(geometry.out_hw, framed, (height, width), ratio_pad=geometry.ratio_pad())
        np.testing.assert_allclose(back, boxes, atol=1e-6 * max(height, width))


def test_rectangular_batches_hold_their_images():
    rng = np.random.default_rng(1)
    shapes = rng.integers(100, 1000, (23, 2))
    plan = rect_batches(shapes, batch=4, imgsz=320, stride=32, pad=0.5)
    assert sorted(plan.order.tolist()) == list(range(23))
    assert plan.batch.tolist() == [i // 4 for i in range(23)]
    assert (plan.shapes % 32 == 0).all()
    for place, image in enumerate(plan.order):
        # At its long side of 320 the image fits into its batch without being made smaller.
        needed = shapes[image] * 320 / shapes[image].max()
        assert (plan.shapes[plan.batch[place]] >= needed).all()


def test_no_images_no_batches():
    assert rect_batches(np.zeros((0, 2)), batch=4, imgsz=64).shapes.shape == (0, 2)
