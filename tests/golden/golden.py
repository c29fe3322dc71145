"""Where the recorded numbers lie, which of them a test reads, and which may differ.

Every golden test module calls `golden_files(pattern, …)` at import to get its parameters. The same call registers the
pattern, so that `test_files_are_known.py` can fail for a file that no test reads. Subjects that are not built yet stand
in `NOT_BUILT` and nowhere else; their parameters are strict expected failures. A row there does not make a file known:
where nothing can be compared yet, `test_not_built.py` looks for the subject, and fails once it is there. Cases in which
we do better than the reference stand in `deviations.md`; `same_or_deviation` demands that such a case really differs.

Any folder of the same layout will do. What it does not hold is skipped, file by file.
"""

from __future__ import annotations

import fnmatch
import importlib
import os
import re
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
GOLDEN = Path(os.environ.get("SIGHTLINE_GOLDEN", PROJECT.parent / "shared" / "golden")).resolve()
SPEC = Path(os.environ.get("SIGHTLINE_SPEC", PROJECT.parent / "shared" / "spec")).resolve()
SHARED_DATA = Path(os.environ.get("SIGHTLINE_SHARED_DATA", PROJECT.parent / "shared" / "data")).resolve()

# Files whose subject comes with a later issue: pattern → which. The only place that decides an xfail.
NOT_BUILT: dict[str, str] = {
    "models/yolo11[nsmlx].npz": "YOLO11",
    "models/yolov8[nsmlx].npz": "YOLOv8",
    "models/yolov10*.npz": "YOLOv10",
    "models/*-seg.npz": "segmentation",
    "models/*-obb.npz": "oriented boxes",
    "models/*-cls.npz": "classification",
    "training/loss_seg_*.npz": "segmentation",
    "training/loss_obb_*.npz": "oriented boxes",
    "training/tal_rotated.npz": "oriented boxes",
    "training/steps_yolo11*.npz": "YOLO11",
}

REGISTERED: set[str] = set()


def golden_files(*patterns: str) -> list:
    """Parameters (paths, ids) for the files of the golden folder that match; registers the patterns as tested.

    Where none matches there is one parameter, None, that is skipped and says so.
    """
    REGISTERED.update(patterns)
    found = sorted(path for pattern in patterns for path in GOLDEN.glob(pattern))
    if not found:
        reason = f"no {' or '.join(patterns)} in the folder {GOLDEN}; set SIGHTLINE_GOLDEN to another"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    return [pytest.param(path, id=_name(path), marks=_marks(path)) for path in found]


def not_built(path: Path) -> str | None:
    """The subject that is missing for this file, or None."""
    return next((why for pattern, why in NOT_BUILT.items() if fnmatch.fnmatch(_name(path), pattern)), None)


def import_subject(task: str, *places: str) -> Any:
    """What a later issue brings: the loss of its task, where the table of tasks has it, or the first place that exists.

    Args:
        task: a row of `sightline/tasks.py`; finds the subject also where it was built under another name.
        places: `module` or `module:attribute`.

    Raises:
        ImportError: there is neither the task nor the module of the last place.
        AttributeError: the module of the last place is there, but not the attribute.
    """
    tasks = importlib.import_module("sightline.tasks").TASKS
    if task in tasks:
        return tasks[task].load("loss")
    missing: ImportError | AttributeError = ImportError(f"there is no task {task}")
    for place in places:
        module, _, attribute = place.partition(":")
        try:
            found = importlib.import_module(module)
            return getattr(found, attribute) if attribute else found
        except (ImportError, AttributeError) as error:
            missing = error
    raise missing


def golden_path(name: str) -> Path:
    """One file or folder by name, for a test that needs just that. Skips where it is absent; in CI a folder must be."""
    REGISTERED.add(name)
    path = GOLDEN / name
    if not path.exists():
        message = f"golden file {path} is missing; set SIGHTLINE_GOLDEN"
        if os.environ.get("CI") and not GOLDEN.is_dir():
            pytest.fail(message)
        pytest.skip(message)
    return path


def shared_data(name: str) -> Path:
    """A folder of real images. Skips where it is absent, fails in CI."""
    path = SHARED_DATA / name
    if not path.exists():
        message = f"data folder {path} is missing; set SIGHTLINE_SHARED_DATA"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


def deviations() -> dict[str, str]:
    """Case → reason, from the table rows `| case | what we do | reason |` of deviations.md."""
    text = (Path(__file__).parent / "deviations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (.+?) \|$", text, flags=re.MULTILINE)
    return dict(rows)


KNOWN_CASES: set[str] = set()


def same_or_deviation(case: str, same: bool, message: str = "") -> None:
    """Assert that a case equals its recording, or, if deviations.md has a row for it, that it does not."""
    if case in deviations():
        assert not same, f"deviations.md has a row for {case}, but it equals the recording: remove the row"
    else:
        assert same, f"{case} differs from the recording. {message}"


def register_cases(*cases: str) -> None:
    """Name the cases a module compares, so that a row of deviations.md for no case at all is found."""
    KNOWN_CASES.update(cases)


def _name(path: Path) -> str:
    return path.relative_to(GOLDEN).as_posix()


def _marks(path: Path) -> list:
    reason = not_built(path)
    return [pytest.mark.xfail(strict=True, reason=f"not built yet: {reason}")] if reason else []
