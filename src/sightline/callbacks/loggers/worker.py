"""A thread that does things one after the other, where nobody waits for them and nothing that fails gets out."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class Worker:
    """Made and used by one process; begins with its first task.

    Args:
        name: of the thread.
        failed: told of every exception, in the thread.
    """

    def __init__(self, name: str, failed: Callable[[BaseException], None]) -> None:
        self.failed = failed
        self.tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A daemon: a tracker that hangs must not keep the process from ending.
        self.thread = threading.Thread(target=self._work, name=f"sightline-{name}", daemon=True)

    def put(self, task: Callable[[], None]) -> None:
        """Do it after what is there already. Returns at once."""
        if not self.thread.is_alive():
            self.thread.start()
        self.tasks.put(task)

    def finish(self, seconds: float) -> bool:
        """Take no more, and wait for what is there. Returns whether all of it was done within that time."""
        self.tasks.put(None)
        if self.thread.is_alive():
            self.thread.join(seconds)
        return not self.thread.is_alive()

    def _work(self) -> None:
        while (task := self.tasks.get()) is not None:
            try:
                task()
            except BaseException as error:  # packages for trackers raise SystemExit, too
                self.failed(error)
