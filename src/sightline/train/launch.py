"""One call becomes several processes: the parent sends its trainer to every rank, waits, and gets the results back.

The ranks are started by torch's elastic launcher as new interpreters (`python rank.py folder`), so nothing of the
parent's script is run a second time, guarded by `if __name__ == "__main__"` or not, and notebooks work. The trainer
object travels as it is, with its class, settings, callbacks and whatever the user has set on it, written by
cloudpickle: things that a new interpreter could not import (`__main__`, a cell of a notebook) travel by value. The file
lies in a private folder for as long as the run lasts and is read by nobody else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import pickle
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from sightline import errors
from sightline.data.loader import usable_cores
from sightline.errors import Interrupted, SightlineError, TrainingError
from sightline.log import is_configured
from sightline.train import distributed, travel
from sightline.train.interrupt import NUMBERS, interruption
from sightline.train.rank import ERROR, HEADER, PAYLOAD, PROCESS, RESULT

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

INTERRUPTED = "Interrupted"  # the kind of word that ranks leave who were told to end, and have saved
PRELOAD = "SIGHTLINE_PRELOAD"  # modules whose `enable()` every rank calls before it reads anything


def train(trainer: BaseTrainer) -> None:
    """Run a trainer in as many processes as its settings ask for; afterwards it holds the results of rank 0.

    Raises:
        TrainingError: a rank failed or was killed; the message names it, and its traceback is on the terminal.
        SightlineError: of the same class as on the rank, where it is one.
    """
    processes = distributed.wanted(trainer.args)
    with tempfile.TemporaryDirectory(prefix="sightline-ranks-") as name:  # made with mode 0700
        folder = Path(name)
        _write(folder, trainer)
        failure = _start(folder, processes)
        if failure is not None:
            raise failure
        travel.unpack(trainer, (folder / RESULT).read_bytes())


def _write(folder: Path, trainer: BaseTrainer) -> None:
    preload = [name for name in os.environ.get(PRELOAD, "").split(",") if name]
    header = {"path": sys.path, "directory": os.getcwd(), "preload": preload, "log": is_configured()}
    (folder / HEADER).write_text(json.dumps(header), encoding="utf-8")
    (folder / PAYLOAD).write_bytes(travel.pack(trainer))


def _start(folder: Path, processes: int) -> BaseException | None:
    """Run the ranks to their end; returns what became of them, None if all went well."""
    with _untouched_process(), _signals_passed_on(folder) as told:
        # What the user has set stays.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(usable_cores() // processes, 1)))  # the cores are shared out
        # Seconds until a rank that does not end when told to is killed; torch's 30 are long to look at a dead run.
        os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "5")
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP's remark that it looks for unused parameters
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=folder.name,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",  # the name of the machine may lead nowhere
            max_restarts=0,
            monitor_interval=0.1,
            logs_specs=DefaultLogsSpecs(log_dir=str(folder / "log")),
            **OWN_SIGNALS,
        )
        try:
            elastic_launch(config, sys.executable)(str(Path(__file__).with_name("rank.py")), str(folder))
        except ChildFailedError as failed:
            error = _error_of(folder, failed, processes)
            return error if isinstance(error, Interrupted) or not told else _at_once(told[0])
        except SignalException as stopped:  # an older torch, which tells the ranks itself and waits for them
            word = _word_of(folder)
            if word is not None and word["kind"] == INTERRUPTED:
                return interruption(word["signal"], word["message"])
            return _at_once(stopped.sigval)
    return None


def _at_once(number: int) -> BaseException:
    """What a signal comes to that found nothing to save: the run had not begun, or was at its end."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


# torch's launcher would take these signals for itself and end the ranks within a time that it fixes beforehand.
_CAN_LEAVE_THEM = any(field.name == "signals_to_handle" for field in dataclasses.fields(LaunchConfig))
OWN_SIGNALS = {"signals_to_handle": "SIGQUIT"} if _CAN_LEAVE_THEM else {}


@contextlib.contextmanager
def _signals_passed_on(folder: Path) -> Iterator[list[int]]:
    """The ranks are in sessions of their own, so Ctrl-C reaches only this process: it tells them, and waits while they
    finish their step and save. The second time they are ended at once. Yields the signals that have come."""
    told: list[int] = []

    def tell(number: int, _: FrameType | None) -> None:
        processes = [int(file.read_text()) for file in folder.glob(f"{PROCESS}.*")]
        again = bool(told) or not processes
        told.append(number)
        for process in processes:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL if again else number)
        if again:
            raise _at_once(number)

    if OWN_SIGNALS and threading.current_thread() is threading.main_thread():
        for number in NUMBERS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, tell)  # `_untouched_process` puts back what was there
    yield told


@contextlib.contextmanager
def _untouched_process() -> Iterator[None]:
    """What the launcher changes in this process is put back: signal handlers, environment, and its log is quiet.

    What it logs of a failure is said better by the rank itself and by the error that is raised here.
    """
    environment = dict(os.environ)
    log = logging.getLogger("torch.distributed.elastic")
    level = log.level
    handlers = {}
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        handlers[number] = signal.getsignal(number)
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
        for number, handler in handlers.items():
            with contextlib.suppress(ValueError, TypeError):  # another thread than the first has set none
                signal.signal(number, handler)
        for key in os.environ.keys() - environment.keys():
            del os.environ[key]
        os.environ.update(environment)


def _word_of(folder: Path) -> dict[str, Any] | None:
    """What the first rank to fail has left."""
    path = folder / ERROR
    return pickle.loads(path.read_bytes()) if path.exists() else None


def _error_of(folder: Path, failed: ChildFailedError, processes: int) -> BaseException:
    """The error of the rank that failed first."""
    report = _word_of(folder)
    if report is not None:
        if report["kind"] == INTERRUPTED:
            return interruption(report["signal"], report["message"])
        where = f"rank {report['rank']} of {processes}"
        if report["kind"] == "KeyboardInterrupt":
            return KeyboardInterrupt()
        if report.get("named"):
            return TrainingError(report["message"])
        kind = getattr(errors, report["kind"], None)
        if isinstance(kind, type) and issubclass(kind, SightlineError):
            return kind(f"{report['message']} ({where})")
        return TrainingError(f"{where} failed with {report['kind']}: {report['message']}\nIts traceback stands above.")
    rank, failure = failed.get_first_failure()
    how = (
        f"was killed by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with exit code {failure.exitcode}"
    )
    hint = " Often the system ends a process that takes too much memory." if failure.exitcode == -signal.SIGKILL else ""
    return TrainingError(f"rank {rank} of {processes} {how}, so the run was ended.{hint}")
