"""Folders and files of a run."""

from __future__ import annotations

import os
from pathlib import Path

from sightline.artifacts import plots, run_dir


def increment_path(path: str | os.PathLike[str], exist_ok: bool = False, sep: str = "-", mkdir: bool = False) -> Path:
    """The path, or the first of path-2, path-3, … that does not exist; `mkdir` makes it a folder."""
    free = run_dir.increment_path(path, exist_ok, sep)
    if mkdir:
        free.mkdir(parents=True, exist_ok=True)
    return free


def plot_results(file: str | os.PathLike[str] = "", dir: str | os.PathLike[str] = "") -> None:
    """Draw results.png beside a results.csv: that file, or the one in the folder `dir`."""
    plots.plot_results(file or Path(dir) / "results.csv")
