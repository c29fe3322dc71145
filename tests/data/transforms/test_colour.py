from __future__ import annotations

import colorsys

import numpy as np

from sightline.data.transforms.channels import RandomSwapRedBlue, SwapRedBlue
from sightline.data.transforms.colour import HSV, RandomHSV
from sightline.structures.sample import Sample


def test_against_the_standard_library():
    """Pixel by pixel with floats; OpenCV counts hue in 180 steps and rounds between, so a few levels may differ."""
    rng = np.random.default_rng(0)
    image = rng.integers(30, 226, (6, 7, 3), dtype=np.uint8)
    hue, saturation, value = 0.05, -0.3, 0.2
    out = HSV(hue, saturation, value).image(image)
    for y in range(6):
        for x in range(7):
            b, g, r = (image[y, x] / 255).tolist()
            h, s, v = colorsys.rgb_to_hsv(r, g, b)
            expected = colorsys.hsv_to_rgb((h + hue) % 1, min(s * (1 + saturation), 1), min(v * (1 + value), 1))
            np.testing.assert_allclose(out[y, x, ::-1], np.array(expected) * 255, atol=6)


def test_strips_join_without_a_seam():
    image = np.random.default_rng(1).integers(0, 256, (700, 900, 3), dtype=np.uint8)  # several strips
    whole = HSV(0.01, 0.5, -0.2).image(image)
    rows = [HSV(0.01, 0.5, -0.2).image(image[i : i + 1]) for i in (0, 47, 48, 49, 350, 699)]
    for i, row in zip((0, 47, 48, 49, 350, 699), rows, strict=True):
        np.testing.assert_array_equal(whole[i : i + 1], row)


def test_other_channel_counts_have_no_hue():
    grey = np.full((4, 4, 1), 7, np.uint8)
    assert HSV(0.1, 0.5, 0.5).image(grey) is grey


def test_draws_and_the_off_switch():
    rng = np.random.default_rng(0)
    sample = Sample(np.zeros((2, 2, 3), np.uint8))
    drawn = [RandomHSV(0.1, 0.5, 0.2).decide(sample, rng) for _ in range(300)]
    for name, limit in (("hue", 0.1), ("saturation", 0.5), ("value", 0.2)):
        values = [abs(getattr(one, name)) for one in drawn]
        assert max(values) <= limit
        assert max(values) > 0.95 * limit
    assert RandomHSV(0, 0, 0).decide(sample, rng) is None


def test_red_and_blue_change_places():
    image = np.array([[[1, 2, 3]]], np.uint8)
    assert SwapRedBlue().image(image).tolist() == [[[3, 2, 1]]]
    rng = np.random.default_rng(0)
    assert RandomSwapRedBlue(0.0).decide(Sample(image), rng) is None
    assert RandomSwapRedBlue(1.0).decide(Sample(image), rng) is not None
