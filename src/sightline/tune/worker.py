"""`python -m sightline.tune.worker FOLDER DEVICE PARENT`: a process that takes trials of a study until none is left."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from sightline.errors import TrainingError
from sightline.log import configure
from sightline.tune.ledger import Ledger
from sightline.tune.plan import Plan
from sightline.tune.search import work
from sightline.tune.trial import TrainTrial

ALL_FAIL = 3  # exit code
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl


def main(folder: str, device: str, parent: int) -> int:
    """Returns the exit code: 0 where no trial is left to take, 3 where the study cannot work."""
    _end_with(parent)
    configure()
    plan = Plan.load(Path(folder))
    if device:
        plan.settings.assign("device", device, origin="tune")
    try:
        work(plan, Ledger(plan), TrainTrial())
    except TrainingError as error:  # the supervisor finds the reason in the table, too
        print(error, file=sys.stderr)
        return ALL_FAIL
    return 0


def _end_with(parent: int) -> None:
    """A worker without a supervisor would go on training in folders that a resumed study takes for its own."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before that call
        raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
