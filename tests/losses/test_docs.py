"""Every block of docs/losses.md runs, with the tiny data set in the place of coffee.yaml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sightline.losses.own import OwnLoss

PAGE = Path(__file__).resolve().parents[2] / "docs" / "losses.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
SMALL = "imgsz=64, batch=4, workers=0, plots=False, amp=False, verbose=False, device='cpu', project=PROJECT"


def test_there_are_blocks_and_each_trains():
    assert len(BLOCKS) == 5
    assert all(block.count('data="coffee.yaml"') == 1 for block in BLOCKS)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_runs(number: int, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[Any] = []
    make = OwnLoss.make
    monkeypatch.setattr(OwnLoss, "make", lambda self, model: made.append(self.name) or make(self, model))
    text = BLOCKS[number].replace('data="coffee.yaml"', f"data={str(tiny_data)!r}, {SMALL}")
    exec(compile(text, f"{PAGE.name}, block {number}", "exec"), {"PROJECT": str(tmp_path)})
    assert (tmp_path / "train" / "weights" / "best.pt").exists()
    assert bool(made) == ("loss=" in text.replace("_loss=", ""))
