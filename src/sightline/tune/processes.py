"""Trials side by side: worker processes that share the file of the study, and what is done when one of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

import sightline
from sightline.errors import Interrupted, TrainingError
from sightline.log import LOGGER
from sightline.tune.ledger import RUNNING, Ledger
from sightline.tune.plan import Plan
from sightline.tune.search import say_outcome, stop_if_all_fail

LOOK = 0.5  # seconds between two looks at the workers
STOP = 60.0  # seconds that an interrupted worker has to write its state
MOST_DEATHS = 3  # of workers in a row that took no trial: they cannot even start
# What numerical libraries read when they are loaded, so that workers do not all want every core.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
LAST_LINES = 5


@dataclass
class Worker:
    process: subprocess.Popen[bytes]
    place: int  # which of the workers side by side
    log: Path


def run_in_processes(plan: Plan, ledger: Ledger) -> None:
    """Keep `parallel` workers busy until no trial is left. The death of one ends its trial, not the study.

    Raises:
        TrainingError: the first trials fail, all for one reason; or workers cannot start.
    """
    workers: list[Worker] = []
    said: set[int] = set(ledger.ended())
    deaths = 0
    with _terminated_is_interrupted():
        try:
            while True:
                for worker in [each for each in workers if each.process.poll() is not None]:
                    workers.remove(worker)
                    deaths = 0 if _bury(worker, ledger) else deaths + 1
                    if deaths >= MOST_DEATHS:
                        raise TrainingError(
                            f"Workers cannot start. The end of {worker.log}:\n{_last_lines(worker.log)}"
                        )
                said |= _say_what_ended(ledger, said)
                stop_if_all_fail(ledger.rows())
                free = [
                    place for place in range(plan.options.parallel) if place not in {each.place for each in workers}
                ]
                for place in free[: ledger.left_to_take()]:
                    workers.append(_start(plan, place))
                if not workers:
                    return
                time.sleep(LOOK)
        finally:
            _stop(workers)
            for worker in workers:
                ledger.recover(worker.process.pid, "interrupted")


def _start(plan: Plan, place: int) -> Worker:
    """A worker with its share of the cores, and a GPU of its own where there are several."""
    cores = os.cpu_count() or 1
    threads = str(max(cores // plan.options.parallel, 1))
    package = str(Path(sightline.__file__).resolve().parents[1])
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, **dict.fromkeys(THREADS, threads), "PYTHONPATH": paths}
    log = plan.folder / f"worker-{place}.log"
    command = [
        sys.executable,
        "-m",
        "sightline.tune.worker",
        str(plan.folder),
        _device_of(plan, place),
        str(os.getpid()),
    ]
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which asks each once
        )
    return Worker(process, place, log)


def _device_of(plan: Plan, place: int) -> str:
    """The GPU of a worker; "" where the settings say the device, or there is one for all."""
    if plan.settings.is_user_set("device") or torch.cuda.device_count() < 2:
        return ""
    return str(place % torch.cuda.device_count())


def _bury(worker: Worker, ledger: Ledger) -> bool:
    """What is left of a worker that has ended; returns whether it was of use."""
    code = worker.process.returncode
    if code == 0:
        return True
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    again = ledger.recover(worker.process.pid, f"its process ended with {how}")
    LOGGER.warning(
        f"a worker has ended with {how}{'; its trial is begun again' if again else ''}. More in {worker.log}; out of "
        "memory is a usual reason: fewer parallel=, or a smaller batch."
    )
    return bool(again)


def _say_what_ended(ledger: Ledger, said: set[int]) -> set[int]:
    new = [row for row in ledger.rows() if row.number not in said and row.state != RUNNING]
    for row in new:
        say_outcome(ledger.plan, row, ledger.rows())
    return {row.number for row in new}


def _stop(workers: list[Worker]) -> None:
    """Ask them to end in order; their runs write what they have."""
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.terminate()
    end = time.monotonic() + STOP
    for worker in workers:
        try:
            worker.process.wait(max(end - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()


def _last_lines(file: Path) -> str:
    return "\n".join(file.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:])


@contextmanager
def _terminated_is_interrupted() -> Iterator[None]:
    """SIGTERM ends the study as Ctrl-C does, so that workers can write their state."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number, "the study was told to end")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
