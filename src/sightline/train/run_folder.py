"""The folder of a run, from a trainer's side: made, cleared of old results, taken away if nothing came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.artifacts import events, validation_record
from sightline.artifacts.run_dir import make_run_dir, remove_empty
from sightline.backends import ranks
from sightline.callbacks.loggers import EVENT_FILES
from sightline.files import previous_of
from sightline.train import saving

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer


def open_for(trainer: BaseTrainer) -> None:
    """Make the folder, the same on all ranks, and name the files in it."""
    if trainer.rank == 0:
        trainer.save_dir = make_run_dir(trainer.args, trainer.task, "train", made=trainer.made_folders)
    trainer.save_dir = ranks.broadcast(trainer.save_dir)
    trainer.wdir = trainer.save_dir / "weights"
    trainer.last, trainer.best = trainer.wdir / "last.pt", trainer.wdir / "best.pt"
    trainer.csv = trainer.save_dir / "results.csv"
    trainer.events.silent = trainer.rank != 0


def remove_old_results(trainer: BaseTrainer) -> None:
    """exist_ok: yesterday's best.pt is not today's result. Only now, because a run that cannot start keeps them.

    What happened so far waits in `trainer.events` until then.
    """
    saving.remove_leftovers(trainer)
    if not trainer.args.resume:
        goals = (trainer.goals.file(trainer.wdir, goal) for goal in trainer.goals)
        log = trainer.save_dir / events.NAME
        curves = trainer.save_dir.glob(EVENT_FILES)  # TensorBoard would draw them through the new ones
        for old in (trainer.csv, trainer.last, previous_of(trainer.last), trainer.best, log, *goals, *curves):
            old.unlink(missing_ok=True)
    # Also of a run that goes on: they tell of one that is over.
    for name in ("report.html", validation_record.NAME):
        (trainer.save_dir / name).unlink(missing_ok=True)
    trainer.events.open(trainer.save_dir)


def discard(trainer: BaseTrainer) -> None:
    """A run that ends before an epoch is recorded leaves nothing; files of others stay, with their folder."""
    if trainer.save_dir in trainer.made_folders and not trainer.csv.exists() and not trainer.last.exists():
        for pattern in ("args.yaml", "labels.jpg", "train_batch*.jpg", "lr_find.*", events.NAME, EVENT_FILES):
            for file in trainer.save_dir.glob(pattern):
                file.unlink()
    if trainer.made_folders:
        remove_empty([*trainer.made_folders, trainer.wdir])
