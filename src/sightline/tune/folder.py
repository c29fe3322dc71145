"""The folder of a command that tries something before a run: it stays where something was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sightline.artifacts.run_dir import make_run_dir, remove_empty
from sightline.log import LOGGER


@contextmanager
def folder_for(trainer: Any, name: str) -> Iterator[Path]:
    """A new folder beside the runs of a task. It is removed where the block ends with an error or an interrupt.

    Args:
        name: of the command, and of the folder unless the settings name another.

    Raises:
        OutputError: it cannot be made.
    """
    made: list[Path] = []
    with trainer.interrupt:  # SIGTERM as an exception, like Ctrl-C
        try:
            yield make_run_dir(trainer.args, trainer.task, name, made=made)
        except BaseException as error:
            remove_empty(made)
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                LOGGER.warning(f"{name} was interrupted: nothing is kept.")
            raise
