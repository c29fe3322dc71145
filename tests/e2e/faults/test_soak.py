"""600 epochs with a fault where runs are known to die: it ends, and its memory is what it was at epoch 50."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

LONG_RUN = Path(__file__).resolve().parents[3] / "benchmarks" / "long_run.py"
SAID = {
    100: "cannot be read any more",
    200: "Back to the last good",
    487: "out of memory",
    532: "Back to the last good",
    599: "is above .* its running median",
}
FAULTS = "100:image 200:weight 300:disk 487:memory 532:gradient 599:loss"


@pytest.mark.slow
def test_a_run_of_600_epochs_survives_and_does_not_grow(data: Path, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, str(LONG_RUN), f"--data={data}", "--imgsz=64", "--batch=8", "--epochs=600",
         f"--faults={FAULTS}", f"--out={tmp_path}", "--only-hit"],
        capture_output=True, text=True, timeout=2400, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + (tmp_path / "hit.log").read_text()[-3000:]
    found = re.search(r"ours hit: (\d+) epochs in 1 processes, .* memory ([+-][\d.]+)% since epoch 50", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) == 600
    assert abs(float(found[2])) < 5.0
    said = (tmp_path / "hit.log").read_text()
    assert "No space left on device" in said
    assert "is written again" in said
    for epoch, line in SAID.items():
        # Five bad steps in a row take two and a half epochs of two batches.
        places = "|".join(str(epoch + later) for later in range(4))
        assert re.search(rf"epoch ({places})\b.*{line}", said), f"epoch {epoch}: {line}"
    assert (tmp_path / "hit.faults").read_text().split() == FAULTS.split()
