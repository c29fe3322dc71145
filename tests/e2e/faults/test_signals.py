"""SIGTERM and Ctrl-C: the step is finished and saved, the exit code is the shell's, and the run can go on."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from e2e.faults import tiny
from e2e.faults.conftest import Nursery, different, log, result, wait_until
from sightline.artifacts.checkpoint import load_checkpoint


@pytest.mark.parametrize(
    ("number", "way"),
    [(signal.SIGTERM, "cli"), pytest.param(signal.SIGINT, "facade", marks=pytest.mark.slow)],
)
def test_one_signal_saves_and_the_resume_ends_as_the_clean_run(
    number: int, way: str, nursery: Nursery, clean: dict[str, Any], tmp_path: Path
):
    folder = tmp_path / "run"
    process = nursery.start(folder, **{way: True}, settings={"save_every_steps": 0})
    wait_until(lambda: "epoch 1/2" in log(folder))
    os.kill(process, number)
    assert nursery.end() == 128 + number, log(folder)
    said = log(folder)
    last = folder / "weights/last.pt"
    assert f"{number.name}: ended after epoch" in said
    assert f"sightline train resume={shlex.quote(str(last))}" in said
    assert "Traceback" not in said
    load_checkpoint(last)
    assert nursery.run(folder) == 0, log(folder)
    assert different(clean, result(folder)) == []


def test_a_truncated_last_is_replaced_by_the_one_before(nursery: Nursery, clean: dict[str, Any], tmp_path: Path):
    folder = tmp_path / "run"
    last = folder / "weights/last.pt"
    process = nursery.start(folder)
    wait_until(lambda: last.with_name("last.prev.pt").exists())
    os.kill(process, signal.SIGTERM)
    assert nursery.end() == 143, log(folder)
    os.truncate(last, last.stat().st_size // 2)
    # Through the facade, as the command line does: it also reads the file for the network.
    assert nursery.run(folder, facade=True, settings={"model": str(last)}) == 0, log(folder)
    assert "The one saved before it is taken" in log(folder)
    assert last.with_name("last.aside.pt").exists()  # and did not become the previous one
    assert different(clean, result(folder)) == []


@pytest.mark.slow
def test_a_second_signal_ends_at_once(nursery: Nursery, tmp_path: Path):
    folder = tmp_path / "run"
    process = nursery.start(folder, settings={"epochs": 100, "save_every_steps": 0})
    wait_until(lambda: "epoch 1/100" in log(folder))
    os.kill(process, signal.SIGSTOP)  # so that both are there before the step is at its end
    os.kill(process, signal.SIGTERM)
    os.kill(process, signal.SIGINT)
    os.kill(process, signal.SIGCONT)
    assert nursery.end() in (130, 143), log(folder)
    assert "ended after" not in log(folder)


SCRIPT = """
    import sys
    from sightline import YOLO

    def say(trainer):
        print("at work", trainer.epoch, flush=True)

    if __name__ == "__main__":
        YOLO("yolo26n.yaml").train(callbacks={"on_train_batch_start": say}, **SETTINGS)
"""


def script(folder: Path, data: Path, **settings: Any) -> subprocess.Popen[str]:
    values = {**tiny.RUN, "data": str(data), "save_dir": str(folder / "run"), **settings}
    del values["model"]
    file = folder / "script.py"
    file.write_text(textwrap.dedent(SCRIPT).replace("SETTINGS", repr(values)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, str(file)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def output_after(process: subprocess.Popen[str], number: int) -> str:
    """Send the signal when training is at work, and read to the end."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("at work"):
            break
    process.send_signal(number)
    rest, _ = process.communicate(timeout=200)
    return "".join(lines) + rest


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_script_exits_with_the_code_of_the_signal(
    processes: int, number: int, code: int, data: Path, nursery: Nursery, clean: dict[str, Any], tmp_path: Path
):
    settings = {} if processes == 1 else {"nproc": 2}
    process = script(tmp_path, data, **settings)
    said = output_after(process, number)
    assert process.returncode == code, said
    assert len(re.findall(r"To go on: sightline train resume=", said)) == 1, said
    assert "Traceback" not in said, said
    folder = tmp_path / "run"
    if processes == 1:
        assert nursery.run(folder) == 0, log(folder)
        assert different(clean, result(folder)) == []
    else:
        state = load_checkpoint(folder / "weights/last.pt")
        assert len(state["run"]["ranks"]) == 2
