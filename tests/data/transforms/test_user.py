from __future__ import annotations

import random
import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sightline.data.transforms.base import Transform
from sightline.data.transforms.user import UserAugmentations
from sightline.errors import DataError, SettingTypeError
from sightline.structures.sample import Labels, Sample


@dataclass(frozen=True)
class Shift(Transform):
    pixels: int

    def boxes(self, boxes):
        return boxes + self.pixels


@dataclass(frozen=True)
class RandomShift:
    probability: float

    def decide(self, sample, rng):
        return Shift(int(rng.integers(50, 60))) if rng.random() < self.probability else None


def _sample() -> Sample:
    boxes = np.array([[0, 0, 20, 20], [80, 80, 100, 100]], np.float32)
    return Sample(np.full((100, 100, 3), 7, np.uint8), Labels(boxes, np.zeros(2, np.float32)))


def test_an_object_that_decides_may_move_and_lose_boxes():
    rng = np.random.default_rng(0)
    out = UserAugmentations.of([RandomShift(1.0)])(_sample(), rng)
    assert len(out.labels) == 1  # the second one left the image
    assert 50 <= out.boxes[0, 0] < 60
    assert UserAugmentations.of([RandomShift(0.0)])(_sample(), rng).boxes.tolist() == _sample().boxes.tolist()


def noisy(image):
    image += np.random.randint(0, 100, image.shape).astype(np.uint8) + random.randint(0, 50)  # in place, global chance
    return image


def test_a_plain_function_depends_on_the_sample_alone_and_leaves_no_trace():
    sample, augment = _sample(), UserAugmentations.of([noisy])
    np.random.seed(1)
    random.seed(1)
    before = np.random.get_state()[1].copy(), random.getstate()
    first = augment(sample, np.random.default_rng(5)).image
    assert (np.random.get_state()[1] == before[0]).all()
    assert random.getstate() == before[1]
    np.random.seed(2)
    random.seed(2)
    np.testing.assert_array_equal(augment(sample, np.random.default_rng(5)).image, first)
    assert not np.array_equal(augment(sample, np.random.default_rng(6)).image, first)
    assert (sample.image == 7).all()


@pytest.mark.parametrize(
    "function", [lambda image: image[:50], lambda image: image / 255, lambda image: {"image": image}]
)
def test_a_function_that_returns_something_else_is_named(function):
    with pytest.raises(DataError, match=r"augmentation <lambda> returned .*uint8 \(100, 100, 3\)"):
        UserAugmentations.of([function])(_sample(), np.random.default_rng(0))


def test_items_that_cannot_be_used():
    with pytest.raises(SettingTypeError, match="augmentations=5"):
        UserAugmentations.of([5])

    class WrongResult:
        def decide(self, sample, rng):
            return lambda sample: sample.image

    with pytest.raises(DataError, match=r"WrongResult\.decide"):
        UserAugmentations.of([WrongResult()])(_sample(), np.random.default_rng(0))


def test_the_example_of_the_guide(monkeypatch):
    """docs/augmentation.md: what it prints works, and boxes turn with the pixels."""
    guide = (Path(__file__).resolve().parents[3] / "docs" / "augmentation.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL) if "QuarterTurn" in block)
    module = types.ModuleType("guide_example")
    monkeypatch.setitem(sys.modules, "guide_example", module)  # dataclasses look their module up
    exec(compile(code, "augmentation.md", "exec"), module.__dict__)
    image = np.zeros((100, 100, 3), np.uint8)
    image[20:30, 60:95] = 255
    labels = Labels(np.array([[60, 20, 95, 30]], np.float32), np.zeros(1, np.float32))
    augment = UserAugmentations.of([module.RandomQuarterTurn(1.0)])
    out = augment(Sample(image, labels), np.random.default_rng(0))
    ys, xs = np.nonzero(out.image[..., 0])
    assert out.boxes.tolist() == [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]
    assert not np.array_equal(out.image, image)
