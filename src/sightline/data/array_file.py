"""Several arrays in one file that can be memory-mapped, and that holds nothing but data.

Layout: 8 bytes magic, 8 bytes little-endian length of the header, the header (JSON: facts, and for each array its type,
shape and place), then the arrays, each at a multiple of 64 bytes. Reading never runs anything; what does not add up is
a ValueError, and the caller makes the file anew.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from sightline.files import atomic_write

MAGIC = b"SLARRAY1"
ALIGN = 64
TYPES = frozenset({"float32", "int64", "int32", "uint8"})


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write arrays and JSON-able facts, atomically.

    Raises:
        OutputError: the folder cannot be written.
    """
    places: dict[str, Any] = {}
    at = 0
    for name, array in arrays.items():
        if array.dtype.name not in TYPES:
            raise ValueError(f"{name} is {array.dtype}; an array file holds {', '.join(sorted(TYPES))}")
        places[name] = {"dtype": array.dtype.name, "shape": list(array.shape), "offset": at}
        at += -(-array.nbytes // ALIGN) * ALIGN
    header = json.dumps({"facts": dict(facts), "arrays": places}).encode()
    header += b" " * (-(16 + len(header)) % ALIGN)
    with atomic_write(path, durable=False) as file:
        file.write(MAGIC + len(header).to_bytes(8, "little") + header)
        for array in arrays.values():
            content = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
            file.write(content.tobytes())
            file.write(b"\0" * (-array.nbytes % ALIGN))


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Only the facts. Raises OSError or ValueError."""
    return dict(_header(path)[0]["facts"])


def map_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays as read-only views of the mapped file, and the facts.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is not such a file, or is cut.
    """
    header, start, size = _header(path)
    block = np.memmap(path, np.uint8, mode="r")
    arrays: dict[str, np.ndarray] = {}
    for name, place in header["arrays"].items():
        if place["dtype"] not in TYPES or any(not isinstance(side, int) or side < 0 for side in place["shape"]):
            raise ValueError(f"{path}: {name} has an unknown type or shape")
        dtype = np.dtype(place["dtype"]).newbyteorder("<")
        first = start + int(place["offset"])
        last = first + math.prod(place["shape"]) * dtype.itemsize
        if not start <= first <= last <= size:
            raise ValueError(f"{path}: {name} lies outside the file")
        # A plain array over the mapping: a memmap object costs microseconds for each slice taken of it.
        arrays[name] = np.asarray(block)[first:last].view(dtype).reshape(place["shape"])
    return arrays, header["facts"]


def _header(path: str | os.PathLike[str]) -> tuple[dict[str, Any], int, int]:
    """(header, where the arrays start, size of the file)."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        magic, length = file.read(8), int.from_bytes(file.read(8), "little")
        if magic != MAGIC or length > size:
            raise ValueError(f"{path} is not an array file")
        try:
            header = json.loads(file.read(length))
            arrays, facts = header["arrays"], header["facts"]
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} has a damaged header") from error
    if not isinstance(arrays, dict) or not isinstance(facts, dict):
        raise ValueError(f"{path} has a damaged header")
    return header, 16 + length, size
