"""Running a script as `python script.py` does, with the old import names leading to sightline."""

from __future__ import annotations

import builtins
import io
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType, TracebackType

from sightline.compat import spawned
from sightline.compat.spawned import SCRIPT
from sightline.compat.switch import enable
from sightline.errors import MissingInputError, SightlineError, UsageError
from sightline.log import configure

USAGE = "Example: sightline run train.py --epochs 5"
HELP = """Usage: python -m sightline.compat [--replace] script.py [arguments]

Run a script written for `ultralytics` on sightline, unchanged.
--replace: also where the package `ultralytics` itself is installed."""
INTERRUPTED = 130


def main(words: Sequence[str]) -> int:
    """`[--replace] script.py [arguments]`: run it and return the exit code.

    0 or what the script exits with · 1 it raised · 2 there is no such script · 130 interrupted. An error of sightline
    is one line on standard error; any other keeps its traceback.
    """
    words = list(words)
    if words[:1] in (["-h"], ["--help"]):
        print(HELP)
        return 0
    configure()
    replace = words[:1] == ["--replace"]
    try:
        return run_script(words[replace:], replace=replace)
    except SightlineError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code


def run_script(words: Sequence[str], *, replace: bool = False) -> int:
    """Run a script in this process, as its main program, and return its exit code.

    `sys.argv`, `sys.path[0]` and `__main__` become those of the script and stay so: threads and exit handlers of it may
    look at them to the end of the process.

    Args:
        words: the script, then its arguments.
        replace: as for `enable`.

    Raises:
        UsageError: no script is named. MissingInputError: it cannot be read.
    """
    if not words:
        raise UsageError(f"run needs a script. {USAGE}")
    if words[0].startswith("-"):
        raise UsageError(f"run has no option {words[0]}; there is --replace, before the script. {USAGE}")
    path = os.path.abspath(words[0])
    source = _read(words[0])
    sys.argv = list(words)
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    main_module = ModuleType("__main__")
    main_module.__dict__.update(__file__=path, __builtins__=builtins)
    if enable(replace=replace):
        os.environ[SCRIPT] = path
        main_module.__spec__ = ModuleSpec(spawned.__name__, None)  # how a spawned process begins
    sys.modules["__main__"] = main_module
    try:
        # Not inheriting: the `annotations` of this file must not change what the script's annotations are.
        code = compile(source, path, "exec", dont_inherit=True)
        exec(code, main_module.__dict__)
    except SystemExit as end:
        return _exit_code(end)
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except SightlineError as error:
        _complain(f"{_place(error.__traceback__, path)}{error}")
        return error.exit_code
    except BaseException as error:
        own = _from_script_on(error.__traceback__, path)
        sys.excepthook(type(error), error.with_traceback(own), own)
        return 1
    return 0


def _read(name: str) -> bytes:
    if os.path.isdir(name):
        raise MissingInputError(f"{name} is a folder, not a script. Give the file in it, such as {name}/train.py.")
    try:
        with io.open_code(os.path.abspath(name)) as file:
            return file.read()
    except FileNotFoundError:
        raise MissingInputError(f"There is no script {name} (looked in {os.getcwd()}). {USAGE}") from None
    except OSError as problem:
        raise MissingInputError(f"The script {name} cannot be read: {problem.strerror}.") from None


def _exit_code(end: SystemExit) -> int:
    """What Python makes of `sys.exit(…)`: nothing is 0, a number itself, anything else is printed and 1."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code
    print(end.code, file=sys.stderr, flush=True)
    return 1


def _place(trace: TracebackType | None, script: str) -> str:
    """`train.py line 12: `, the last line of the script, or of a file beside it, that led to the error."""
    folder = os.path.dirname(script) + os.sep
    lines = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(trace)]
    own = [(file, line) for file, line in lines if file.startswith(folder) and "site-packages" not in file]
    if not own:
        return ""
    file, line = own[-1]
    return f"{os.path.relpath(file, os.path.dirname(script))} line {line}: "


def _from_script_on(trace: TracebackType | None, script: str) -> TracebackType | None:
    """The traceback without the frames that called the script. None for a script that cannot be compiled."""
    while trace is not None and trace.tb_frame.f_code.co_filename != script:
        trace = trace.tb_next
    return trace


def _complain(message: str) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)
