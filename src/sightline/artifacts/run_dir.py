"""The folder of a run: where it lies, how it is numbered, and that it can be written to before anything starts."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from pathlib import Path

from sightline.config.settings import Settings
from sightline.errors import MissingInputError, OutputError, SettingValueError
from sightline.files import previous_of

# An RT-DETR is a detector: scripts look for its runs where those of detectors lie.
FOLDERS = {"rtdetr": "detect"}


def increment_path(path: str | os.PathLike[str], exist_ok: bool = False, sep: str = "-") -> Path:
    """The first of `train`, `train-2`, `train-3`, … that does not exist. A file keeps its suffix: `f-2.txt`.

    Args:
        path: what is wanted.
        exist_ok: take it even where it exists.
        sep: between name and number.
    """
    wanted = Path(path)
    if exist_ok or not os.path.lexists(wanted):
        return wanted
    # A folder called `a.b` has no suffix; a file called `f.txt` has.
    stem, suffix = (wanted.name, "") if wanted.is_dir() else (wanted.stem, wanted.suffix)
    numbered = (wanted.with_name(f"{stem}{sep}{number}{suffix}") for number in itertools.count(2))
    return next(candidate for candidate in numbered if not os.path.lexists(candidate))


def make_run_dir(settings: Settings, task: str, mode: str, *, made: list[Path] | None = None) -> Path:
    """Make the folder of a run and return it as an absolute path (a script may change its working directory).

    `save_dir` is taken as it is. Else it is `project/name`, numbered where that exists and `exist_ok` is off; a
    relative one lies below the working directory. `project` defaults to `runs/<task>` (see `FOLDERS`), `name` to the
    mode.

    Args:
        made: takes the folders that did not exist before, outermost first, for `remove_empty` if the run cannot start.

    Raises:
        OutputError: it cannot be made or written to. Folders made on the way are removed again.
    """
    if settings.save_dir is not None:
        return _make(Path(settings.save_dir), "save_dir", [] if made is None else made, numbered=False)
    project = Path(settings.project) if settings.project is not None else Path("runs") / FOLDERS.get(task, task)
    which = "project" if settings.project is not None else "project (default: runs/<task>)"
    return _make(project / (settings.name or mode), which, [] if made is None else made, numbered=not settings.exist_ok)


def remove_empty(made: list[Path]) -> None:
    """Remove folders that were made for a run that did not start, and forget them; one that holds something stays."""
    for folder in reversed(made):
        with contextlib.suppress(OSError):
            folder.rmdir()
    made.clear()


def latest_checkpoint(folder: str | os.PathLike[str] = ".") -> Path | None:
    """The newest `last*.pt` below a folder, which `resume=True` without a model means; None if there is none.

    Where only the one before it is left (`last.prev.pt`), the name without `.prev` still means the run.
    """
    moments: dict[Path, float] = {}
    for path in Path(folder).rglob("last*.pt"):
        if path.is_file() and not path.name.endswith(".aside.pt"):
            run = path.with_name(path.name.replace(".prev.pt", ".pt"))
            moments[run] = max(moments.get(run, 0.0), path.stat().st_mtime)
    return max(moments, key=lambda path: moments[path], default=None)


def checkpoint_to_resume(resume: bool | str, model: str | None = None) -> Path:
    """The checkpoint that `resume=` means: a file, that of a run folder, else a `model` that is one, else the newest.

    Raises:
        MissingInputError: there is none.
        SettingValueError: it is a file of another kind.
    """
    if isinstance(resume, str):
        wanted = Path(resume).expanduser()
    elif model is not None and Path(model).suffix == ".pt":
        wanted = Path(model).expanduser()
    else:
        newest = latest_checkpoint()
        if newest is None:
            raise MissingInputError(
                f"resume=True finds no last.pt below {Path.cwd()}. "
                "Name the run to go on with: resume=runs/detect/train/weights/last.pt"
            )
        return newest
    path = wanted / "weights" / "last.pt" if wanted.is_dir() else wanted
    if not path.is_file() and not previous_of(path).is_file():
        raise MissingInputError(
            f"resume={wanted}: there is no such file as {path}. Runs keep theirs in runs/<task>/<name>/weights/last.pt."
        )
    if path.suffix != ".pt":
        raise SettingValueError(f"resume={wanted} is no checkpoint. Give the last.pt of a run, or the run's folder.")
    return path


def _make(wanted: Path, which: str, made: list[Path], *, numbered: bool) -> Path:
    try:
        target = Path(os.path.abspath(wanted.expanduser()))
        try:
            _make_parents(target.parent, made)
            target = _make_last(target, made, numbered=numbered)
            _probe(target)
        except (OSError, ValueError):
            remove_empty(made)
            raise
    except (OSError, ValueError, RuntimeError) as error:  # a name with a zero byte, a `~somebody` that does not exist
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(
            f"The run folder {str(wanted)!r} cannot be made or written to: {reason}. "
            f"Choose another place with the setting {which}; it must be a folder you may write to, with free space."
        ) from error
    return target


def _make_parents(folder: Path, made: list[Path]) -> None:
    missing = [folder, *folder.parents]
    missing = list(itertools.takewhile(lambda path: not path.exists(), missing))
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another run was faster
            path.mkdir()
            made.append(path)


def _make_last(target: Path, made: list[Path], *, numbered: bool) -> Path:
    """Make the folder itself. Two runs that start together must not get the same number, so the mkdir decides."""
    if not numbered and target.is_dir():
        return target
    while True:
        candidate = increment_path(target, exist_ok=not numbered)
        try:
            candidate.mkdir()
        except FileExistsError:
            if not numbered:
                raise  # a file of this name
            continue
        made.append(candidate)
        return candidate


def _probe(folder: Path) -> None:
    """Fail now, not after the first epoch, where nothing can be written."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"\0" * 4096)
        file.flush()
