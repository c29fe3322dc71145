"""A skipped test is a green one: where CI runs, every package that tests skip without is there."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PACKAGES = sorted(
    {name for path in HERE.rglob("*.py") for name in re.findall(r'importorskip\("(\w+)', path.read_text())}
)


@pytest.mark.skipif(not os.environ.get("CI"), reason="only CI must have all of them")
@pytest.mark.parametrize("package", PACKAGES)
def test_ci_has_it(package: str):
    assert importlib.util.find_spec(package) is not None, "the extra `dev` in pyproject.toml should bring it"


def test_the_list_is_not_empty():
    assert {"ray", "wandb", "mlflow", "tensorboard", "mkdocs"} <= set(PACKAGES)
