"""Keypoints stay on what they mark through every transform: marks are painted, and looked for afterwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sightline.data.collate import collate
from sightline.data.transforms.affine import RandomAffine
from sightline.data.transforms.flip import RandomFlipLeftRight, RandomFlipUpDown
from sightline.data.transforms.format import to_tensors
from sightline.data.transforms.letterbox import letterbox
from sightline.data.transforms.mosaic import RandomMosaic
from sightline.data.transforms.pipeline import TrainingPipeline
from sightline.structures.sample import Labels, Sample

SIZE = 128
# Colour of each of four keypoints; 1 and 2 are left and right.
MARKS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8)
FLIP = (0, 2, 1, 3)


class Marked:
    """Images with one object, whose four keypoints are marked by squares of 9 pixels in their own colours."""

    def __init__(self, count: int = 4, height: int = 100, width: int = SIZE) -> None:
        self.count, self.height, self.width = count, height, width

    def __len__(self) -> int:
        return self.count

    def load(self, i: int) -> Sample:
        rng = np.random.default_rng(i)
        image = np.full((self.height, self.width, 3), 60, np.uint8)
        corners = np.array(
            [[20, 20], [self.width - 25, 22], [24, self.height - 24], [self.width - 30, self.height - 26]]
        )
        points = corners + rng.integers(-8, 8, (4, 2))
        for (x, y), colour in zip(points, MARKS, strict=True):
            image[y - 4 : y + 5, x - 4 : x + 5] = colour
        keypoints = np.concatenate([points + 0.5, np.full((4, 1), 2)], 1)[None].astype(np.float32)
        box = np.array([[*(points.min(0) - 5), *(points.max(0) + 5)]], np.float32)
        labels = Labels(box, np.zeros(1, np.float32), keypoints=keypoints)
        return Sample(image, labels, index=i, path=f"{i}.png", original_shape=image.shape[:2])


def check(sample: Sample, *, mirrored: bool) -> int:
    """Every labelled keypoint lies on its own colour; in a mirrored image left is right. Returns how many there are."""
    seen = 0
    for points in sample.labels.keypoints:
        for number, (x, y, visible) in enumerate(points):
            if not visible or not (2 <= x < sample.width - 2 and 2 <= y < sample.height - 2):
                continue
            colour = MARKS[FLIP[number] if mirrored else number].astype(int)
            found = sample.image[int(y), int(x)].astype(int)
            assert np.abs(found - colour).max() < 90, (number, x, y, found)
            seen += 1
    return seen


def test_letterbox():
    assert check(letterbox(Marked(height=60, width=120).load(0), (SIZE, SIZE)), mirrored=False) == 4


@pytest.mark.parametrize("side", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)], ids=["as it is", "left-right", "up-down"])
@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_the_whole_chain(side: tuple[float, float], mosaic: float):
    chain = TrainingPipeline(
        mosaic=RandomMosaic(SIZE, probability=mosaic),
        affine=RandomAffine(degrees=20, translate=0.1, scale=0.3, shear=5),
        flip_left_right=RandomFlipLeftRight(side[0], FLIP),
        flip_up_down=RandomFlipUpDown(side[1], FLIP),
    )
    chain = _without_colour(chain)
    source, seen = Marked(), 0
    for number in range(25):
        rng = np.random.default_rng(number)
        sample = chain(number % 4, source, rng, size_hw=(SIZE, SIZE))
        seen += check(sample, mirrored=max(side) > 0)
    assert seen > 60


def _without_colour(chain: TrainingPipeline) -> TrainingPipeline:
    return replace(chain, colour=replace(chain.colour, hue=0.0, saturation=0.0, value=0.0))


def test_a_batch_has_one_table_of_keypoints():
    empty = Sample(
        np.zeros((SIZE, SIZE, 3), np.uint8),
        Labels(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), keypoints=np.zeros((0, 4, 3), np.float32)),
    )
    samples = [letterbox(Marked().load(0), (SIZE, SIZE)), empty, letterbox(Marked().load(1), (SIZE, SIZE))]
    batch = collate([to_tensors(each) for each in samples])
    assert batch["keypoints"].shape == (2, 4, 3)
    assert batch["batch_idx"].tolist() == [0, 2]
    assert float(batch["keypoints"][..., :2].max()) <= 1
    np.testing.assert_allclose(
        batch["keypoints"][1, :, :2].numpy() * SIZE, samples[2].labels.keypoints[0, :, :2], atol=1e-3
    )
