"""The zoo, as it was recorded: broken runs are named within their first third, healthy ones are left alone.

`python benchmarks/zoo.py --seeds 0 1 2 --record tests/diagnosis/zoo.jsonl.gz` records it anew.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from zoo import CASES, case_of, judged_again, verdict

RUNS: dict[str, dict[str, Any]] = {}
with gzip.open(Path(__file__).parent / "zoo.jsonl.gz", "rt") as recorded:
    for line in recorded:
        run = json.loads(line)
        RUNS[run["key"]] = {
            **run,
            "findings": [],
            "history": {"setup": run["setup"], "epochs": run["epochs"]},
        }


@pytest.mark.parametrize("key", RUNS)
def test_a_recorded_run_is_judged_rightly(key: str):
    result = judged_again(RUNS[key])
    said = [(finding["rule"], finding["epoch"]) for finding in result["findings"]]
    assert verdict(case_of(key), result), f"{key}: said {said}, expected {case_of(key).expects or 'nothing'}"


@pytest.mark.parametrize("name", ["shapes", "bccd"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_case_is_recorded(name: str, seed: int):
    assert {key for key in RUNS if key.startswith(f"{name}|{seed}|")} == {f"{name}|{seed}|{c.name}" for c in CASES}


def test_there_are_as_many_as_were_promised():
    assert sum(not case.healthy for case in CASES) >= 20
    assert sum(case.healthy for case in CASES) >= 10
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_verdict_can_be_wrong():
    """A history of a healthy run is no proof for a broken case, and the other way round."""
    by_case = {case.name: case for case in CASES}
    healthy, broken = judged_again(RUNS["bccd|0|defaults"]), judged_again(RUNS["bccd|0|boxes in pixels"])
    assert not verdict(by_case["boxes in pixels"], healthy)
    assert not verdict(by_case["defaults"], broken)
