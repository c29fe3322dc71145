"""Every recorded file has a test, be it one that must fail as long as its subject is not built."""

from __future__ import annotations

import fnmatch
import importlib
import os
import sys
from pathlib import Path

import pytest

from golden import golden

HERE = Path(__file__).parent


def _import_all_golden_tests() -> None:
    for path in sorted(HERE.glob("test_*.py")):
        if path.stem != Path(__file__).stem:
            name = f"golden.{path.stem}"
            if name not in sys.modules:
                importlib.import_module(name)


@pytest.mark.parametrize("folder", [golden.GOLDEN, golden.SPEC], ids=["golden", "spec"])
def test_the_folder_is_there_in_ci(folder: Path):
    if not os.environ.get("CI"):
        pytest.skip("only CI must have the folder")
    assert folder.is_dir(), f"{folder} is missing: CI must not skip the golden tests"


def test_every_file_is_known():
    if not golden.GOLDEN.is_dir():
        pytest.skip(f"no golden folder at {golden.GOLDEN}")
    _import_all_golden_tests()
    known = [*golden.REGISTERED, "README.md", "*/README.md", "data_metrics/versions.json"]
    files = [path.relative_to(golden.GOLDEN).as_posix() for path in golden.GOLDEN.rglob("*") if path.is_file()]
    unknown = [name for name in files if not any(fnmatch.fnmatch(name, pattern) for pattern in known)]
    assert not unknown, f"no test reads {unknown}"


def test_every_deviation_belongs_to_a_case():
    _import_all_golden_tests()
    # A case is named file/…; a folder without that file says nothing about its rows.
    cases = [case for case in golden.deviations() if any(golden.GOLDEN.glob(f"*/{case.split('/')[0]}*"))]
    if not cases:
        pytest.skip(f"{golden.GOLDEN} has no file that deviations.md speaks of")
    unused = [case for case in cases if case not in golden.KNOWN_CASES]
    assert not unused, f"deviations.md has rows for no test: {unused}"
