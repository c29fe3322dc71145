"""SIGINT (Ctrl-C), SIGTERM (schedulers) and SIGHUP (a lost terminal): the first is obeyed between two steps, the second
at once."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from sightline.backends import ranks
from sightline.errors import Interrupted, InterruptedByUser

NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupt:
    """Listens while it is entered; only in the main thread, and only to signals that nobody else handles.

    Attributes:
        asked: the number of the signal that wants the run to end, 0 for none.
        at_once: a second one has come, so nothing is waited for any more.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.at_once = False
        self._deferring = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        self.asked, self.at_once = 0, False
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                # What a script or a notebook has arranged for itself stays, and so does what `nohup` turned off.
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._put_back()

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """While this lasts, the first signal is only noted: whoever runs inside looks at `asked`."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._deferring and not self.asked:
            self.asked = number
            if ranks.is_main():  # not print: the signal may have come in the middle of one
                name = signal.Signals(number).name
                with contextlib.suppress(OSError):  # the terminal may be what was lost
                    os.write(2, f"\n{name}: the step is finished and saved; once more ends at once\n".encode())
            return
        self.at_once = True
        self._put_back()
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    def _put_back(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)


def interruption(number: int, message: str) -> Interrupted:
    """What to raise once everything is saved."""
    return (InterruptedByUser if number == signal.SIGINT else Interrupted)(number, message)


def resume_command(last: Path) -> str:
    """What to type to go on."""
    return f"sightline train resume={shlex.quote(str(last))}"
