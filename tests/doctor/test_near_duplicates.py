from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sightline.doctor.near_duplicates import difference_hashes, near_pairs


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)


def write(path: Path, image: np.ndarray, *options: int) -> str:
    cv2.imwrite(str(path), image, options)
    return str(path)


@pytest.fixture
def originals(tmp_path: Path) -> list[str]:
    return [write(tmp_path / f"{seed}.png", picture(seed)) for seed in range(5)]


@pytest.mark.parametrize(
    "copy",
    [
        lambda image: image,
        lambda image: cv2.resize(image, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA),
        lambda image: cv2.convertScaleAbs(image, alpha=0.8, beta=15),
    ],
    ids=["same", "smaller", "darker"],
)
def test_a_copy_is_found_whatever_has_been_done_to_it(originals: list[str], tmp_path: Path, copy):
    twin = write(tmp_path / "twin.jpg", copy(picture(3)), cv2.IMWRITE_JPEG_QUALITY, 60)
    pairs = near_pairs(difference_hashes([twin]), difference_hashes(originals))
    assert [(row, match) for row, match, _ in pairs] == [(0, 3)]


def test_different_pictures_are_no_pair(originals: list[str], tmp_path: Path):
    others = [write(tmp_path / f"other{seed}.png", picture(100 + seed)) for seed in range(20)]
    assert near_pairs(difference_hashes(others), difference_hashes(originals)) == []


def test_pictures_without_structure_resemble_nothing(tmp_path: Path):
    flat = [write(tmp_path / f"flat{value}.png", np.full((64, 64, 3), value, np.uint8)) for value in (0, 128)]
    hashes = difference_hashes([*flat, str(tmp_path / "missing.png")])
    assert near_pairs(hashes, hashes) == []


def test_bits_are_counted_as_python_counts_them():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2**63, (7, 4), dtype=np.uint64)
    second = first.copy()
    second[:, 2] ^= np.uint64(0b1011)
    expected = [(row, row, 3) for row in range(7)]
    assert near_pairs(first, second) == expected
    by_hand = [sum(bin(int(a) ^ int(b)).count("1") for a, b in zip(first[0], other, strict=True)) for other in first]
    assert min(by_hand[1:]) > 60  # else the pairs above would mean nothing
