"""What the fault tests share: the data, a run without faults to compare with, and processes to do harm to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from e2e.faults import tiny
from sightline.artifacts.checkpoint import load_checkpoint

NURSERY = Path(__file__).with_name("nursery.py")
PATIENCE = 120.0  # seconds that a run of seconds may take on a busy machine


class Nursery:
    """Starts runs in processes of their own, one at a time."""

    def __init__(self, data: Path) -> None:
        self.data = data
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(NURSERY)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, folder: Path, **order: Any) -> int:
        """Begin a run in `folder`, or go on with the one that is there; returns the number of its process."""
        last = folder / "weights" / "last.pt"
        go_on = last.exists() or last.with_name("last.prev.pt").exists()
        begin = {**tiny.RUN, "data": str(self.data), "save_dir": str(folder), "exist_ok": True}
        settings = {"resume": str(last)} if go_on else begin
        order = {"log": str(folder.with_suffix(".log")), **order, "settings": {**settings, **order.get("settings", {})}}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> int:
        """Wait for the run; how it ended, as subprocess counts: negative is a signal."""
        return int(self.process.stdout.readline())

    def run(self, folder: Path, **order: Any) -> int:
        self.start(folder, **order)
        return self.end()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("fault data"))


@pytest.fixture(scope="session")
def nursery(data: Path) -> Iterator[Nursery]:
    nursery = Nursery(data)
    yield nursery
    nursery.process.stdin.close()
    nursery.process.wait(timeout=PATIENCE)


@pytest.fixture(scope="session")
def clean(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run without faults ends with."""
    folder = tmp_path_factory.mktemp("clean") / "run"
    assert nursery.run(folder) == 0, log(folder)
    return result(folder)


def result(folder: Path) -> dict[str, Any]:
    """Final weights of all kinds, and the table without its column of seconds."""
    last, best = (load_checkpoint(folder / "weights" / name) for name in ("last.pt", "best.pt"))
    head, *rows = [line.split(",") for line in (folder / "results.csv").read_text().splitlines()]
    found = {f"raw {name}": value for name, value in last["run"]["raw_model"].items()}
    found |= {f"last {name}": value for name, value in last["model"].items()}
    found |= {f"best {name}": value for name, value in best["model"].items()}
    seconds = head.index("time")
    return {**found, "results": [row[:seconds] + row[seconds + 1 :] for row in (head, *rows)]}


def different(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """The names of what is not the same in both, to the last bit."""
    assert a.keys() == b.keys()
    return [n for n in a if not (torch.equal(a[n], b[n]) if isinstance(a[n], torch.Tensor) else a[n] == b[n])]


def log(folder: Path) -> str:
    path = folder.with_suffix(".log")
    return path.read_text() if path.exists() else ""


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "that never came"
        time.sleep(0.01)
