"""Every recorded file is read by a test, or its subject is named as not built yet."""

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


def test_the_golden_folder_is_there_in_ci():
    if not os.environ.get("CI"):
        pytest.skip("only CI must have the folder")
    assert golden.GOLDEN.is_dir(), f"{golden.GOLDEN} is missing: CI must not skip the golden tests"


def test_every_file_is_known():
    if not golden.GOLDEN.is_dir():
        pytest.skip(f"no golden folder at {golden.GOLDEN}")
    _import_all_golden_tests()
    known = [*golden.REGISTERED, *golden.NOT_BUILT, "README.md", "*/README.md", "data_metrics/versions.json"]
    files = [path.relative_to(golden.GOLDEN).as_posix() for path in golden.GOLDEN.rglob("*") if path.is_file()]
    unknown = [name for name in files if not any(fnmatch.fnmatch(name, pattern) for pattern in known)]
    assert not unknown, f"no test reads {unknown}"


def test_every_deviation_belongs_to_a_case():
    _import_all_golden_tests()
    unused = [case for case in golden.deviations() if case not in golden.KNOWN_CASES]
    if not golden.GOLDEN.is_dir():
        pytest.skip(f"no golden folder at {golden.GOLDEN}")
    assert not unused, f"deviations.md has rows for no test: {unused}"
