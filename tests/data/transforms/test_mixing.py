from __future__ import annotations

import numpy as np

from sightline.data.transforms.mixing import MixUp, RandomCopyPaste, RandomCutMix, RandomMixUp
from sightline.data.transforms.scene import Scene
from sightline.structures.sample import Labels, Sample


def _sample(value: int, boxes, size: int = 100, polygons=None) -> Sample:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = Labels(boxes, np.full(len(boxes), value, np.float32), polygons)
    return Sample(np.full((size, size, 3), value, np.uint8), labels)


def test_mixup_blends_and_keeps_both_sets_of_objects():
    first, second = _sample(100, [[0, 0, 10, 10]]), _sample(200, [[5, 5, 20, 20]])
    out = MixUp(second, 0.25)(first)
    assert (out.image == 175).all()
    assert out.classes.tolist() == [100, 200]
    assert (first.image == 100).all()


def test_mixup_weights_lie_around_one_half():
    rng = np.random.default_rng(0)
    other = _sample(0, [])
    shares = [RandomMixUp(1.0).decide(other, rng, second=lambda: other).share for _ in range(300)]
    assert abs(np.mean(shares) - 0.5) < 0.02
    assert 0.04 < np.std(shares) < 0.08  # Beta(32, 32): 0.062


def test_the_second_image_is_not_even_drawn_when_not_needed():
    def second():
        raise AssertionError("drawn")

    sample = _sample(0, [[0, 0, 100, 100]])
    rng = np.random.default_rng(0)
    assert RandomMixUp(0.0).decide(sample, rng, second=second) is None
    assert RandomCutMix(0.0).decide(sample, rng, second=second) is None
    assert RandomCutMix(1.0).decide(sample, rng, second=second) is None  # the image is full of objects
    assert RandomCopyPaste(1.0, "flip").decide(sample, rng, second=second) is None


def test_cutmix_covers_no_object_and_cuts_its_guests():
    first, second = _sample(10, [[0, 0, 30, 30]]), _sample(20, [[40, 40, 90, 90], [0, 0, 30, 30]])
    done = 0
    for seed in range(60):
        cut = RandomCutMix(1.0).decide(first, np.random.default_rng(seed), second=lambda: second)
        if cut is None:
            continue
        done += 1
        out = cut(first)
        x1, y1, x2, y2 = cut.rect
        assert (out.image[y1:y2, x1:x2] == 20).all()
        assert (out.image == 20).sum() == 3 * (x2 - x1) * (y2 - y1)
        assert (out.image[:30, :30] == 10).all()
        assert out.classes.tolist()[0] == 10
        guests = out.boxes[1:]
        assert len(guests)
        assert (guests[:, :2] >= [x1, y1]).all()
        assert (guests[:, 2:] <= [x2, y2]).all()
    assert done > 10
    assert (first.image == 10).all()


def test_pasted_mirror_image_by_hand():
    """A bright object on the left appears a second time on the right; pixels and box agree, at any zoom."""
    image = np.full((100, 100, 3), 50, np.uint8)
    image[20:60, 10:30] = 250
    labels = Labels(np.array([[10, 20, 30, 60]], np.float32), np.array([3], np.float32))
    scene = Scene.of(Sample(image, labels))
    scene = RandomCopyPaste(1.0).decide_mirrored(scene)(scene)
    assert scene.labels.boxes.tolist() == [[10, 20, 30, 60], [70, 20, 90, 60]]
    plain = scene.warp(np.eye(3), (100, 100))
    np.testing.assert_array_equal(plain[20:60, 70:90], 250)
    np.testing.assert_array_equal(plain[:, :50], image[:, :50])
    half = scene.warp(np.diag([0.5, 0.5, 1.0]), (50, 50))
    ys, xs = np.nonzero(half[:, 25:, 0] > 150)
    assert [xs.min() + 25, ys.min(), xs.max() + 26, ys.max() + 1] == [35, 10, 45, 30]


def test_only_candidates_that_hide_little_are_pasted_least_first():
    there = _sample(1, [[0, 0, 40, 40], [60, 60, 100, 100]])
    other = _sample(2, [[0, 0, 40, 40], [30, 30, 50, 50], [45, 0, 55, 10]])  # hides all, 1/16, nothing
    rng = np.random.default_rng(0)
    every = RandomCopyPaste(1.0, "mixup").decide(there, rng, second=lambda: other)
    assert every.objects.tolist() == [2, 1]
    out = every(there)
    assert (out.image[0:10, 45:55] == 2).all()
    assert (out.image[10:20, 10:20] == 1).all()
    assert len(out.labels) == 4
    chosen = RandomCopyPaste(0.5, "mixup")._choose(there.boxes, other.boxes)
    assert chosen.tolist() == [2]


def test_outlines_are_cut_out_along_their_line():
    triangle = np.array([[10, 10], [50, 10], [10, 50]], np.float32)
    other = _sample(9, [[10, 10, 50, 50]], polygons=[triangle])
    out = RandomCopyPaste(1.0, "mixup").decide(_sample(1, []), np.random.default_rng(0), second=lambda: other)(
        _sample(1, [])
    )
    assert (out.image[12, 12] == 9).all()
    assert (out.image[48, 48] == 1).all()
    assert abs((out.image[..., 0] == 9).sum() - 800) < 100  # half of 40 × 40, its edge included


def test_nothing_to_paste():
    rng = np.random.default_rng(0)
    empty = _sample(1, [])
    assert RandomCopyPaste(1.0).decide_mirrored(Scene.of(empty)) is None
    assert RandomCopyPaste(1.0, "mixup").decide(empty, rng, second=lambda: empty) is None
