"""Recorded files of later subjects that no test can compare yet: each looks for its subject, and must not find it.

When such a test fails, because the subject exists, write the comparison in a module of its own and take the row out of
`SUBJECTS` here and of `golden.NOT_BUILT`. Only taking it out is not enough: `test_files_are_known.py` then finds a file
without a test.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from golden import golden

# Pattern of golden.NOT_BUILT → (its task, where it will be). A module stands for what is in it, whatever the names.
SUBJECTS: dict[str, tuple[str, ...]] = {
    "training/loss_seg_*.npz": ("segment", "sightline.losses.segment"),
    "training/loss_obb_*.npz": ("obb", "sightline.losses.obb"),
    "training/tal_rotated.npz": (
        "obb",
        "sightline.losses.assign.task_aligned:RotatedTaskAlignedAssigner",
        "sightline.losses.obb",
    ),
}


def _not_found(what: str) -> pytest.MarkDecorator:
    """Instead of the mark of `golden_files`, for which any failure will do."""
    return pytest.mark.xfail(strict=True, raises=(ImportError, AttributeError), reason=f"not built yet: {what}")


def waiting() -> list:
    """(path, subject) of every file whose row still stands in the table; the others are not registered as tested."""
    return [
        pytest.param(
            *case.values,
            subject,
            id=f"{pattern}-{case.id}" if case.id == "absent" else case.id,
            marks=case.marks if case.values[0] is None else _not_found(golden.NOT_BUILT[pattern]),
        )
        for pattern, subject in SUBJECTS.items()
        if pattern in golden.NOT_BUILT
        for case in golden.golden_files(pattern)
    ]


@pytest.mark.parametrize(("path", "subject"), waiting())
def test_the_subject_is_not_built_yet(path: Path, subject: tuple[str, ...]):
    golden.import_subject(*subject)


def test_only_what_is_not_built_waits():
    built = [pattern for pattern in SUBJECTS if pattern not in golden.NOT_BUILT]
    assert not built, f"no longer in golden.NOT_BUILT, so compare {built} in a test and remove the rows here"
