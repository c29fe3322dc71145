"""The one logger. Silent until a run or the command line configures it."""

from __future__ import annotations

import logging
import sys

LOGGER = logging.getLogger("sightline")
LOGGER.addHandler(logging.NullHandler())


def configure(*, verbose: bool = True) -> None:
    """Send messages to standard output (warnings and worse to standard error); calling again only changes the level."""
    LOGGER.setLevel(logging.INFO if verbose else logging.WARNING)
    if is_configured():
        return
    LOGGER.addHandler(_ConsoleHandler())
    LOGGER.propagate = False


def is_configured() -> bool:
    """Whether messages are shown."""
    return any(isinstance(handler, _ConsoleHandler) for handler in LOGGER.handlers)


class _ConsoleHandler(logging.Handler):
    """Writes to whatever `sys.stdout` and `sys.stderr` are at that moment, so that notebooks and tests see the text."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        try:
            print(prefix + record.getMessage(), file=stream, flush=True)
        except Exception:  # a closed pipe must not end a run
            self.handleError(record)
