"""`kill -9` at any moment, also within a save: the run goes on and ends as if nothing had been."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from e2e.faults.conftest import Nursery, different, log, result


@pytest.mark.parametrize(
    "places", [("write", "replace", "rename"), pytest.param(("fsync", "link"), marks=pytest.mark.slow)]
)
def test_killed_within_a_save(places: tuple[str, ...], nursery: Nursery, clean: dict[str, Any], tmp_path: Path):
    folder = tmp_path / "run"
    for place in places:
        assert nursery.run(folder, die=(place, 2)) == -signal.SIGKILL, f"{place}: {log(folder)}"
    assert nursery.run(folder) == 0, log(folder)
    assert different(clean, result(folder)) == []
    assert not list((folder / "weights").glob(".*")), "half-written files stayed"
    assert {path.name for path in (folder / "weights").iterdir()} == {"best.pt", "last.pt", "last.prev.pt"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments(seed: int, nursery: Nursery, clean: dict[str, Any], tmp_path: Path):
    """Ten kills with each seed; a save is nearly always going on, since every batch begins one."""
    chance, kills, number = random.Random(seed), 0, 0
    while kills < 10:
        number += 1
        folder = tmp_path / f"run{number}"
        while True:
            process = nursery.start(folder)
            if kills < 10:
                time.sleep(chance.uniform(0.05, 4.0))
                os.kill(process, signal.SIGKILL)
            if (code := nursery.end()) == 0:
                break
            assert code == -signal.SIGKILL, log(folder)
            kills += 1
        assert different(clean, result(folder)) == [], log(folder)
