"""Turning the import names of `ultralytics` on and off in this process."""

from __future__ import annotations

import importlib.util
import os
import sys

from sightline.compat.modules import Finder, StandIn
from sightline.compat.process import RANK
from sightline.compat.table import OLD
from sightline.errors import UsageError
from sightline.log import LOGGER, configure

# Modules that a process of the same run imports and `enable()`s before anything else: it unpickles names of them.
PRELOAD = "SIGHTLINE_PRELOAD"
HERE, REPLACING = "sightline.compat", "sightline.compat.replacing"


def enable(replace: bool = False) -> bool:
    """Let `import ultralytics…` lead to sightline. Calling it again changes nothing.

    Messages of the library go to the console from here on, as such scripts expect.

    Args:
        replace: also where the real package is installed. Otherwise that one is left alone, and a warning says so.

    Returns:
        Whether these imports lead to sightline now.

    Raises:
        UsageError: the real package is to be replaced, but has been imported already.
    """
    if RANK < 1:  # of several processes one speaks
        configure()
    if is_enabled():
        return True
    loaded = sys.modules.get(OLD)
    real = getattr(loaded, "__file__", None) or OLD if loaded is not None else _installed()
    if real is not None and not replace:
        LOGGER.warning(
            f"{OLD} is installed ({real}) and left alone: the script runs on it, not on sightline. "
            "`sightline run --replace script.py`, or sightline.compat.enable(replace=True), takes sightline instead."
        )
        return False
    if loaded is not None:
        raise UsageError(
            f"{OLD} ({real}) has been imported already, and what the program took from it would stay beside sightline. "
            "Call sightline.compat.enable(replace=True) before that import; in a notebook, restart the kernel first."
        )
    if real is not None and PRELOAD not in os.environ:  # else the process that started this one has said it
        LOGGER.info(f"{OLD} is installed ({real}), but imports of it lead to sightline here.")
    sys.meta_path.insert(0, Finder())
    os.environ[PRELOAD] = REPLACING if real is not None else HERE
    return True


def disable() -> None:
    """Take the names away again; what a program imported by them stays in its hands."""
    if not is_enabled():
        return
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Finder)]
    for name in [name for name, module in sys.modules.items() if isinstance(module, StandIn)]:
        del sys.modules[name]
    os.environ.pop(PRELOAD, None)


def is_enabled() -> bool:
    """Whether `import ultralytics…` leads to sightline."""
    return any(isinstance(finder, Finder) for finder in sys.meta_path)


def _installed() -> str | None:
    """The file of the real package, if an import would find it. A folder of that name without code is none."""
    spec = importlib.util.find_spec(OLD)
    return None if spec is None else spec.origin
