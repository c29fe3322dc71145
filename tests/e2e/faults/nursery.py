"""A process that has everything imported and forks a run for each line that it reads, so that a run that is killed
costs a second and not the start of Python. It prints the number of the process, and then what became of it.

A line is JSON: `settings`; `log`, where the run's output goes; `die`, the place in a save at which it kills itself, and
in the how-manieth save; `cli`, to go through the command line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import torch

from sightline.artifacts import checkpoint
from sightline.cli.main import main as command_line
from sightline.facade import YOLO
from sightline.log import configure
from sightline.train.detect import DetectionTrainer

torch.set_num_threads(1)


def die_in_save(place: str, count: int) -> None:
    """Kill this process in the save of that number, counted from 1.

    place: "write" half-way through the bytes, or before a call of os: "fsync", "link", "replace" (the rename that keeps
    the previous one), "rename" (the last one).
    """
    saves = 0
    replaced = 0
    write_snapshot, write = checkpoint.write_snapshot, checkpoint._WatchedFile.write

    def die(*_: Any, **__: Any) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def counted(path: Any, content: Any, **more: Any) -> None:
        nonlocal saves
        saves += Path(path).name == "last.pt"
        if saves == count and Path(path).name == "last.pt":
            arm()
        write_snapshot(path, content, **more)

    def arm() -> None:
        replace = os.replace

        def before_the_second(*arguments: Any) -> None:
            nonlocal replaced
            replaced += 1
            if replaced == 2:
                die()
            replace(*arguments)

        if place == "write":
            written = 0

            def half(self: Any, data: Any) -> int:
                nonlocal written
                written += len(data)
                return die() if written > 2**20 else write(self, data)

            checkpoint._WatchedFile.write = half  # type: ignore[method-assign]
        elif place == "rename":
            os.replace = before_the_second
        else:
            setattr(os, place, die)

    from sightline.artifacts import writer

    writer.write_snapshot = counted


def run(order: dict[str, Any]) -> int:
    settings = order["settings"]
    if order.get("die"):
        die_in_save(*order["die"])
    if order.get("cli"):
        return command_line(["train", *(f"{name}={value}" for name, value in settings.items())])
    configure()
    if order.get("facade"):
        YOLO(settings.pop("model")).train(**settings)
    else:
        DetectionTrainer(overrides=settings).train()
    return 0


def child(order: dict[str, Any]) -> NoReturn:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    os.setpgid(0, 0)
    code = 1
    try:
        code = run(order)
    except SystemExit as end:
        code = int(end.code or 0)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            child(json.loads(line))
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
