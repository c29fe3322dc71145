from __future__ import annotations

import numpy as np
import pytest

from sightline.data.transforms.affine import Affine, affine_matrix
from sightline.data.transforms.mosaic import Mosaic, RandomMosaic, nine_places
from sightline.structures.sample import Labels, Sample


def _sample(value: int, height: int, width: int) -> Sample:
    """Filled with one grey level; its one box is the whole image."""
    boxes = np.array([[0, 0, width, height]], np.float32)
    return Sample(np.full((height, width, 3), value, np.uint8), Labels(boxes, np.array([value], np.float32)))


@pytest.mark.parametrize("tiles", [4, 9])
def test_tiles_do_not_overlap_and_boxes_frame_what_shows_of_each(tiles):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        size = 64
        shapes = [
            (size, int(rng.integers(20, 65))) if rng.random() < 0.5 else (int(rng.integers(20, 65)), size)
        ] * tiles
        shapes = [shape if rng.random() < 0.5 else shape[::-1] for shape in shapes]
        samples = [_sample(200 + i, *shape) for i, shape in enumerate(shapes)]
        mosaic = RandomMosaic(size, tiles).decide(samples[0], rng, count=50)
        scene = mosaic.arrange(samples)
        seen = np.zeros((2 * size, 2 * size), int)
        for tile in scene.canvas.tiles:
            height, width = tile.image.shape[:2]
            assert min(tile.x, tile.y) >= 0
            assert max(tile.x + width, tile.y + height) <= 2 * size
            seen[tile.y : tile.y + height, tile.x : tile.x + width] += 1
        assert seen.max() == 1
        picture = scene.canvas.draw()[..., 0]
        for box, label in zip(scene.labels.boxes.astype(int), scene.labels.classes, strict=True):
            x1, y1, x2, y2 = box
            ys, xs = np.nonzero(picture == label)
            assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (x1, y1, x2, y2)
        assert len(scene.labels) == len(scene.canvas.tiles)


def test_nine_surround_the_middle_one():
    places = nine_places([(40, 40)] * 9, 40, (40, 40))
    assert [(place.x, place.y) for place in places] == [
        (20, 20), (20, -20), (60, -20), (60, 20), (60, 60), (20, 60), (-20, 60), (-20, 20), (-20, -20),
    ]  # fmt: skip


def test_a_box_cut_away_by_the_canvas_is_dropped():
    far = Labels(np.array([[0, 0, 5, 5]], np.float32), np.zeros(1, np.float32))
    samples = [Sample(np.zeros((64, 64, 3), np.uint8), far)] + [_sample(200, 64, 64)] * 3
    scene = Mosaic((1, 2, 3), (33, 33), 64).arrange(samples)  # the first image reaches to -31
    assert len(scene.labels) == 3


def test_outlines_stay_beside_images_that_have_only_boxes():
    triangle = np.array([[10, 10], [60, 10], [10, 60]], np.float32)
    drawn = Labels(np.array([[10, 10, 60, 60]], np.float32), np.zeros(1, np.float32), [triangle])
    samples = [Sample(np.zeros((64, 64, 3), np.uint8), drawn), *(_sample(200 + i, 64, 64) for i in range(3))]
    scene = Mosaic((1, 2, 3), (64, 64), 64).arrange(samples)
    assert scene.labels.polygons[0].tolist() == triangle.tolist()
    assert scene.labels.polygons[1].tolist() == [[64, 0], [128, 0], [128, 64], [64, 64]]  # the box's corners
    # Nothing changes for the objects that have only a box, whatever the view.
    boxes_only = Mosaic((1, 2, 3), (64, 64), 64).arrange([_sample(0, 64, 64), *samples[1:]])
    for scale, x in ((1.0, 0.5), (1.9, 0.1), (0.5, 0.9), (1.2, 1.4)):
        view = Affine(affine_matrix((128, 128), (64, 64), scale=scale, translate_xy=(x, 0.5)), (64, 64), scale)
        mixed, plain = view.labels(scene.labels), view.labels(boxes_only.labels)
        for label in (200, 201, 202):
            np.testing.assert_array_equal(mixed.boxes[mixed.classes == label], plain.boxes[plain.classes == label])


def test_probability_and_choice_of_guests():
    rng = np.random.default_rng(0)
    half = RandomMosaic(64, probability=0.5)
    decisions = [half.decide(_sample(0, 64, 64), rng, count=1000) for _ in range(400)]
    made = [decision for decision in decisions if decision]
    assert 150 < len(made) < 250
    guests = np.array([decision.guests for decision in made])
    assert guests.shape[1] == 3
    assert guests.min() < 50
    assert guests.max() > 950
    centres = np.array([decision.centre_xy for decision in made])
    assert centres.min() >= 32
    assert centres.max() < 96
    assert RandomMosaic(64, probability=0.0).decide(_sample(0, 64, 64), rng, count=9) is None
