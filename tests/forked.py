"""Scripts and ranks in processes forked from one that has loaded torch, which is most of what a short one does."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "sightline.facade",
        "sightline.train.detect",
        "sightline.validate.detect",
        "sightline.predict.detect",
        "torch._dynamo",
    ]
)


def run(
    *command: object, cwd: Path, variables: dict[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """What `python COMMAND` does, where COMMAND is a script or `-m module`, and words for it."""
    words = [str(word) for word in command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(variables or {})}
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("stdout", "stderr")]
        process = _SERVER.Process(target=_become, args=(words, str(cwd), environment, *map(str, streams)))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
        texts = [stream.read_text(encoding="utf-8") for stream in streams]
        if process.exitcode is None or process.exitcode < 0:
            raise subprocess.SubprocessError(f"{words} was killed or took more than {timeout} s: {texts}")
        return subprocess.CompletedProcess(words, process.exitcode, *texts)


def ranks(function: Callable[..., None], *args: Any, count: int) -> None:
    """Call function(rank, *args) in as many processes, and raise what one of them raises."""
    from torch.multiprocessing import start_processes

    start_processes(function, args=args, nprocs=count, start_method="forkserver")


def _become(words: list[str], cwd: str, environment: dict[str, str], *streams: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    import torch

    torch.set_num_threads(1)
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            sys.path.insert(0, cwd)
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            sys.path.insert(0, str(Path(words[0]).resolve().parent))
            runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # which processes of multiprocessing do not
