"""`import sightline` is fast and changes nothing in the process or on the disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROBE = """
import json, os, sys, threading, time, warnings
before = (dict(os.environ), threading.active_count(), list(warnings.filters), set(os.listdir(".")))
start = time.perf_counter()
import sightline
seconds = time.perf_counter() - start
after = (dict(os.environ), threading.active_count(), list(warnings.filters), set(os.listdir(".")))
heavy = [name for name in ("torch", "numpy", "cv2", "pydantic") if name in sys.modules]
print(json.dumps({"same": before == after, "seconds": seconds, "heavy": heavy}))
"""


def probe(tmp_path: Path) -> dict:
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=tmp_path, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_importing_changes_nothing_and_loads_nothing_heavy(tmp_path: Path):
    result = probe(tmp_path)
    assert result["same"]
    assert result["heavy"] == []  # which is what keeps it below 0.1 s; `benchmarks/import_time.py` measures it


def test_public_names_are_there():
    import sightline

    for name in sightline.__all__:
        assert getattr(sightline, name) is not None
    assert set(sightline.__all__) == {*sightline._PUBLIC, "compat", "__version__"}


def test_an_unknown_name_says_what_there_is():
    import pytest

    import sightline

    with pytest.raises(AttributeError, match="YOLO"):
        sightline.Yolo  # noqa: B018
