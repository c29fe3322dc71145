"""One call becomes several processes: the parent sends its trainer to every rank, waits, and gets the results back.

The ranks are started by torch's elastic launcher as new interpreters (`python rank.py folder`), so nothing of the
parent's script is run a second time, guarded by `if __name__ == "__main__"` or not, and notebooks work. The trainer
object travels as it is, with its class, settings, callbacks and whatever the user has set on it, written by
cloudpickle: things that a new interpreter could not import (`__main__`, a cell of a notebook) travel by value. The file
lies in a private folder for as long as the run lasts and is read by nobody else.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from sightline import errors
from sightline.data.loader import usable_cores
from sightline.errors import SightlineError, TrainingError
from sightline.log import is_configured
from sightline.train import distributed, travel
from sightline.train.rank import ERROR, HEADER, PAYLOAD, RESULT

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

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
    with _untouched_process():
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
        )
        try:
            elastic_launch(config, sys.executable)(str(Path(__file__).with_name("rank.py")), str(folder))
        except ChildFailedError as failed:
            return _error_of(folder, failed, processes)
        except SignalException as stopped:
            return KeyboardInterrupt() if stopped.sigval == signal.SIGINT else SystemExit(128 + stopped.sigval)
    return None


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


def _error_of(folder: Path, failed: ChildFailedError, processes: int) -> BaseException:
    """The error of the rank that failed first."""
    path = folder / ERROR
    if path.exists():
        report = pickle.loads(path.read_bytes())
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
