"""Images that look the same: a hash of how brightness runs across a picture, and a search for near ones.

Source: Krawetz, Kind of Like That (2013), difference hash; here 16 × 16 comparisons in place of 8 × 8.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

SIDE = 16  # comparisons a row
NEAR = 10  # bits of 256 by which a recompressed or slightly resized copy differs at most
FLAT = 12  # bits: fewer that are set, or unset, belong to a picture without structure, which resembles all others
CHUNK = 512  # rows compared at a time, so that memory stays small


def difference_hashes(paths: Sequence[str]) -> np.ndarray:
    """(n, 4) uint64, zeros for what cannot be read."""
    with ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 1))) as pool:
        hashes = list(pool.map(_hash, paths, chunksize=16))
    return np.array(hashes, dtype=np.uint64).reshape(-1, SIDE * SIDE // 64)


def near_pairs(first: np.ndarray, second: np.ndarray, *, near: int = NEAR) -> list[tuple[int, int, int]]:
    """(row of first, its nearest row of second, bits that differ) of those that are nearly the same."""
    found: list[tuple[int, int, int]] = []
    usable = np.flatnonzero(_has_structure(second))
    if not len(usable):
        return found
    for start in range(0, len(first), CHUNK):
        part = first[start : start + CHUNK]
        bits = np.zeros((len(part), len(usable)), dtype=np.uint16)
        for word in range(first.shape[1]):
            bits += _count(part[:, None, word] ^ second[None, usable, word])
        nearest = bits.argmin(axis=1)
        distance = bits[np.arange(len(part)), nearest]
        for row in np.flatnonzero((distance <= near) & _has_structure(part)):
            found.append((start + int(row), int(usable[nearest[row]]), int(distance[row])))
    return found


def _hash(path: str) -> np.ndarray:
    grey = cv2.imdecode(_bytes(path), cv2.IMREAD_REDUCED_GRAYSCALE_2)
    if grey is None:
        return np.zeros(SIDE * SIDE // 64, dtype=np.uint64)
    small = cv2.resize(grey, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1]).view(np.uint64)


def _bytes(path: str) -> np.ndarray:
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError:
        content = np.zeros(0, dtype=np.uint8)
    return content if len(content) else np.zeros(1, dtype=np.uint8)  # OpenCV raises on nothing at all


def _has_structure(hashes: np.ndarray) -> np.ndarray:
    """(n,) bool."""
    bits = sum(_count(hashes[:, word]).astype(np.int64) for word in range(hashes.shape[1]))
    return np.asarray((bits >= FLAT) & (bits <= SIDE * SIDE - FLAT))


_BYTE_COUNTS = np.array([bin(value).count("1") for value in range(256)], dtype=np.uint8)


def _count(words: np.ndarray) -> np.ndarray:
    """How many bits are set in each uint64. (`np.bitwise_count` only came with NumPy 2.)"""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(words)).astype(np.uint16)
    words = np.ascontiguousarray(words)
    return _BYTE_COUNTS[words.view(np.uint8)].reshape(*words.shape, 8).sum(axis=-1, dtype=np.uint16)
