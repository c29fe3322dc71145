"""What a process that a script spawns (a loader's worker on Windows or macOS) runs before its own work.

Python imports the main program there once more, as `__mp_main__`. `run.py` names this module as that program, so that
the names the script imports are there before the script itself is run.
"""

from __future__ import annotations

import importlib
import os

# Absolute path of the script that `run.py` runs in the process that all others descend from.
SCRIPT = "SIGHTLINE_SCRIPT"

if __name__ == "__mp_main__":
    from sightline.compat.switch import PRELOAD

    if PRELOAD in os.environ:  # the script may have switched the names off again
        importlib.import_module(os.environ[PRELOAD]).enable()
    __file__ = os.environ[SCRIPT]
    with open(__file__, "rb") as source:
        exec(compile(source.read(), __file__, "exec", dont_inherit=True), globals())
