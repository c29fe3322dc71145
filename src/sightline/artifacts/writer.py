"""Checkpoints written by a thread of their own, while training goes on.

A save is a list of files that belong together (`best.pt` before the `last.pt` that counts on it): the first that cannot
be written ends it, so what the disk holds always fits together. A full disk is a warning and not the end of a run:
files that no later save would bring again are kept in memory and tried again with the next one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.artifacts.checkpoint import write_snapshot
from sightline.errors import OutputError
from sightline.log import LOGGER


@dataclass(frozen=True)
class Job:
    """One file to write.

    Attributes:
        content: from `checkpoint.snapshot`.
        previous: where what the file was before is kept.
        precious: if it cannot be written, try again with the next save; False where that brings a newer one anyway.
        done: called once it is on the disk.
    """

    path: Path
    content: dict[str, Any]
    previous: Path | None = None
    precious: bool = False
    done: Callable[[], None] | None = None


class CheckpointWriter:
    """Writes one save after the other.

    Attributes:
        failure: why the last save is not on the disk, None if it is. Read it after `wait`.
    """

    def __init__(self) -> None:
        self.failure: OutputError | None = None
        self._saves: queue.Queue[list[Job] | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._unwritten: dict[Path, Job] = {}
        self._mistake: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether a save is still on its way to the disk."""
        return self._saves.unfinished_tasks > 0

    def put(self, jobs: Sequence[Job]) -> None:
        """Begin a save; returns at once. One that came before is written first."""
        self._raise_mistake()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
            self._thread.start()
        self._saves.put(list(jobs))

    def has(self, path: Path) -> bool:
        """Whether a file is there, or will be as soon as the disk has room for it. Ask after `wait`."""
        return path in self._unwritten or path.exists()

    def wait(self) -> None:
        """Return when every save is on the disk, or has failed.

        Raises:
            Exception: a mistake in the writer; a full disk is no such thing, see `failure`.
        """
        if self._thread is not None:
            self._saves.join()
        self._raise_mistake()

    def close(self, *, wait: bool = True) -> None:
        """End the thread, after what has been begun unless `wait` is False (then the old files stay)."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._saves.put(None)
            if wait:
                thread.join()

    def _run(self) -> None:
        while (jobs := self._saves.get()) is not None:
            try:
                self._save(jobs)
            except BaseException as error:  # it must not be lost with this thread
                self._mistake = error
            finally:
                del jobs  # hundreds of megabytes, until the next save comes
                self._saves.task_done()
        self._saves.task_done()

    def _save(self, jobs: Sequence[Job]) -> None:
        left = [*({**self._unwritten, **{job.path: job for job in jobs}}).values()]
        self._unwritten = {}
        while left:
            job = left[0]
            try:
                write_snapshot(job.path, job.content, check=True, previous=job.previous)
            except OutputError as error:
                self._unwritten = {each.path: each for each in left if each.precious}
                self._say(error)
                return
            if job.done is not None:
                job.done()
            left.pop(0)
        if self.failure is not None:
            self.failure = None
            LOGGER.info(f"{jobs[-1].path} is written again")

    def _say(self, error: OutputError) -> None:
        LOGGER.warning(f"{error} The run goes on, what was saved before is kept, and the next save tries again.")
        self.failure = error

    def _raise_mistake(self) -> None:
        if self._mistake is not None:
            mistake, self._mistake = self._mistake, None
            raise mistake
