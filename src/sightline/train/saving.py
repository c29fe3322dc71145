"""When the files of a run are written, and which belong together. How they are written: artifacts/writer.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.artifacts.checkpoint import OVERHEAD, size_of, snapshot
from sightline.artifacts.tables import ResultsTable
from sightline.artifacts.writer import CheckpointWriter, Job
from sightline.backends import ranks
from sightline.backends.pulse import PULSE
from sightline.errors import OutputError
from sightline.files import free_space, previous_of, remove_unfinished
from sightline.log import LOGGER
from sightline.train import run_checkpoint

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

LONG_VALIDATION = 20.0  # seconds; schedulers kill 30 s after their SIGTERM, as a rule
FILES_OF_A_RUN = 3  # last.pt, last.prev.pt and the one that is being written


class Saver:
    """The saves of one run; lives in the process that trains. Only rank 0 writes, all ranks contribute.

    `save_model` calls `light` and `full` at its moment. What the callbacks of the end of an epoch change afterwards is
    part of the state, too, so last.pt is written after them; where somebody looks at the files earlier (an
    `on_model_save` callback, a trainer with a `save_model` of its own), it is written for them as well.
    """

    def __init__(self) -> None:
        self.writer = CheckpointWriter()
        self.failed = False  # whether the last save that was waited for is not on the disk
        self._light: dict[str, Any] | None = None  # of this epoch; best.pt and its kind hold the same
        self._jobs: list[Job] = []
        self._full = False  # whether `save_model` asked for last.pt
        self._rows: list[dict[str, float | None]] = []  # of results.csv, that are not there yet
        self._batches = 0  # since the last save
        self._moment = time.monotonic()  # of the last save; not the clock, which people set
        self._last_batch = self._moment  # when the batches of the epoch were at their end
        self._validation = 0.0  # seconds from there to the end of the epoch, the last time
        self._asked_room = False

    # ------------------------------------------------------------------ in the middle of an epoch

    def count_batch(self, trainer: BaseTrainer) -> bool:
        """After a batch: whether it is time for a save; rank 0 knows. One that the disk is at is not hurried."""
        settings = trainer.args
        self._batches += 1
        if trainer.rank or not settings.save or self.writer.busy:
            return False
        now, steps, minutes = time.monotonic(), settings.save_every_steps, settings.save_minutes
        if trainer.batch_index + 1 == len(trainer.train_loader):
            self._last_batch = now
            # A signal waits for the validation, and whoever sent it may not.
            if minutes and self._validation > LONG_VALIDATION:
                return True
        return bool(steps and self._batches >= steps) or bool(minutes and now - self._moment >= minutes * 60)

    def save_position(self, trainer: BaseTrainer) -> None:
        """Write last.pt as of now, in the middle of an epoch."""
        trainer.rank_states = ranks.gather(run_checkpoint.rank_state(trainer, in_epoch=True))
        if trainer.rank == 0:
            self._put_last(trainer, in_epoch=True)
        self._saved()

    # ------------------------------------------------------------------ at the end of one

    def light(self, trainer: BaseTrainer, path: Path, *, precious: bool = True) -> None:
        """Write the trained network to a file with this save."""
        if self._light is None:
            self._light = snapshot(run_checkpoint.light_state(trainer))
        self._jobs.append(Job(path, self._light, precious=precious))

    def full(self, trainer: BaseTrainer) -> None:
        """Write last.pt with this save."""
        self._full = True
        replaced = type(trainer).save_model.__module__ != "sightline.train.trainer"
        if replaced or trainer.callbacks["on_model_save"]:
            self._put_last(trainer)
            self.wait(trainer)

    def end_epoch(self, trainer: BaseTrainer) -> None:
        """After everything else of an epoch, on all ranks: what `save_model` has asked for goes to the disk."""
        self._validation = time.monotonic() - self._last_batch
        (due,) = ranks.highest(int(self._full or bool(self._jobs)))
        if not due:
            return
        trainer.rank_states = ranks.gather(run_checkpoint.rank_state(trainer))
        if trainer.rank == 0:
            if self._full:
                self._put_last(trainer)
            else:
                self.writer.put(self._jobs)
        self._saved()

    def _put_last(self, trainer: BaseTrainer, *, in_epoch: bool = False) -> None:
        self.wait(trainer)  # no more than one snapshot in memory
        if not trainer.rank_states:  # a user's own call of save_model
            trainer.rank_states = [run_checkpoint.rank_state(trainer)]
        content = snapshot(run_checkpoint.full_state(trainer, in_epoch=in_epoch))
        if not self._asked_room:
            self._asked_room = True
            self._warn_of_little_room(trainer, content)
        self.writer.put([*self._jobs, Job(trainer.last, content, previous=previous_of(trainer.last))])
        self._jobs = []

    def _saved(self) -> None:
        self._jobs, self._light, self._full = [], None, False
        self._batches, self._moment = 0, time.monotonic()

    def _warn_of_little_room(self, trainer: BaseTrainer, content: dict[str, Any]) -> None:
        needed, free = FILES_OF_A_RUN * (size_of(content) + OVERHEAD), free_space(trainer.wdir)
        if free < needed:
            LOGGER.warning(
                f"The disk of {trainer.wdir} has {free / 2**20:.0f} MB left, and the checkpoints of this run take up "
                f"to {needed / 2**20:.0f} MB. Free some space: the run goes on, but what it cannot save it can lose."
            )

    def add_row(self, table: Path, row: dict[str, float | None]) -> None:
        """Add a row to results.csv; on a full disk it waits for the next one."""
        self._rows.append(row)
        try:
            self._write_rows(table)
        except OutputError as error:
            LOGGER.warning(f"{error} The run goes on, and the row is written with the next one.")

    def _write_rows(self, table: Path) -> None:
        while self._rows:
            ResultsTable(table).append(self._rows[0])
            self._rows.pop(0)

    # ------------------------------------------------------------------ waiting

    def wait(self, trainer: BaseTrainer) -> None:
        """Until what has been begun is on the disk, or has failed (`failed` says so)."""
        if self.writer.busy:
            PULSE.beat(f"writing {trainer.last.name}", patient=True)
        self.writer.wait()
        self.failed = self.writer.failure is not None

    def finish(self, trainer: BaseTrainer) -> None:
        """At the end of a run: the last save must be on the disk.

        Raises:
            OutputError: it is not, and another try did not help.
        """
        self.wait(trainer)
        if self.failed and trainer.rank == 0:
            self._put_last(trainer)
            self.wait(trainer)
        if self.writer.failure is not None:
            raise self.writer.failure
        self._write_rows(trainer.csv)

    def close(self, *, wait: bool) -> None:
        self.writer.close(wait=wait)


def remove_leftovers(trainer: BaseTrainer) -> None:
    """Half-written files of a process that was killed on the way."""
    for file in (trainer.last, trainer.best, previous_of(trainer.last)):
        remove_unfinished(file)
