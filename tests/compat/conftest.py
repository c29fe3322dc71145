"""Each test begins and ends without the old names, whatever it did to the process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline import compat
from sightline.compat.modules import StandIn
from sightline.compat.switch import PRELOAD


@pytest.fixture(autouse=True)
def _no_traces() -> Iterator[None]:
    yield
    compat.disable()
    assert not any(isinstance(module, StandIn) for module in sys.modules.values())
    assert PRELOAD not in os.environ


@pytest.fixture
def real_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package of that name, which nobody has imported; returns the folder on the path."""
    folder = tmp_path / "site"
    (folder / "ultralytics" / "utils").mkdir(parents=True)
    (folder / "ultralytics" / "__init__.py").write_text("YOLO = 'the real one'\n")
    (folder / "ultralytics" / "utils" / "__init__.py").write_text("LOGGER = 'the real one'\n")
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "ultralytics"]:
        del sys.modules[name]
