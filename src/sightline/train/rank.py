"""One of the processes that launch.py starts: `python rank.py FOLDER`.

It reads where to look for modules before it imports anything, so this file begins with the standard library only.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    del sys.path[0]  # Python put the folder of this file there, whose modules would hide others of their names

import importlib
import json
import os
import pickle
import time
import traceback
from pathlib import Path
from typing import Any

HEADER, PAYLOAD, RESULT, ERROR = "header.json", "trainer.pickle", "result.pickle", "error.pickle"
PROCESS = "process"  # .RANK holds the number of its process, once it may be told to end
FOLDER = "SIGHTLINE_RANK_FOLDER"  # set in the processes that launch.py started

CLEAN_UP_SECONDS = 2.0  # the launcher ends us within a tenth of this when another rank has failed


def main(folder: Path, *, talks: bool) -> int:
    """Train as one rank; returns the exit code. The first rank that fails leaves word of it in the folder.

    Args:
        talks: whether the log of the parent is shown.
    """
    from sightline.log import configure

    try:
        trainer = pickle.loads((folder / PAYLOAD).read_bytes())
        (folder / f"{PROCESS}.{os.environ['RANK']}").write_text(str(os.getpid()), encoding="utf-8")
        if talks:
            configure(verbose=trainer.args.verbose)
        trainer.train()
        if trainer.rank == 0:
            from sightline.train import travel

            unfinished = folder / f"{RESULT}.part"
            unfinished.write_bytes(travel.results(trainer))
            unfinished.rename(folder / RESULT)
    except BaseException as error:
        return _report(error)
    return 0


def _report(error: BaseException) -> int:
    """Leave word, and print the traceback, unless another rank has failed before and this one is a mere victim."""
    from sightline.errors import Interrupted, SightlineError

    if isinstance(error, Interrupted):  # the ranks have agreed on it, and said what there is to say
        leave_word({"kind": "Interrupted", "signal": error.signal, "message": error.message})
        return 128 + error.signal
    if _is_lost_connection(error):
        time.sleep(CLEAN_UP_SECONDS)
    if not leave_word({"kind": type(error).__name__, "message": str(error) or repr(error)}):
        return 1
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if not isinstance(error, SightlineError):  # of those the message says all, and the parent prints it
        sys.stdout.flush()
        lines = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        print(f"rank {os.environ['RANK']} failed:\n{lines}", file=sys.stderr, flush=True)
    return getattr(error, "exit_code", 1)


def leave_word(report: dict[str, Any]) -> bool:
    """Tell the parent why the run ends, unless another rank has: False then.

    Without a parent of ours (under torchrun) there is nobody to tell.
    """
    folder = os.environ.get(FOLDER)
    if folder is None:
        return True
    whole = Path(folder, f"{ERROR}.{os.environ['RANK']}")
    whole.write_bytes(pickle.dumps({"rank": int(os.environ["RANK"]), **report}))
    try:
        os.link(whole, Path(folder, ERROR))  # a name that only one can take, and the file behind it is complete
    except FileExistsError:
        return False
    return True


def _is_lost_connection(error: BaseException) -> bool:
    """Whether another rank went away while this one waited for it."""
    signs = ("connection closed", "connection reset", "broken pipe", "remote process exited", "gloo")
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in signs)


def prepare(folder: Path) -> dict[str, Any]:
    """Make this interpreter find what the parent finds; returns what the parent says in plain words."""
    header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
    sys.path[:] = header["path"]
    os.chdir(header["directory"])
    os.environ[FOLDER] = str(folder)
    for name in header["preload"]:
        importlib.import_module(name).enable()
    for stream in (sys.stdout, sys.stderr):  # whole lines, or those of several ranks mix
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return header


if __name__ == "__main__":
    place = Path(sys.argv[1])
    said = prepare(place)
    from sightline.train import rank  # this file once more, under the name that others import it by

    sys.exit(rank.main(place, talks=said["log"]))
