"""When a run has stopped getting better for good: the rules of a plateau, and a countdown behind them."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.config.limits import Limits
from sightline.diagnosis.course import stagnation, val_plateau
from sightline.diagnosis.finding import Finding
from sightline.diagnosis.history import History


@dataclass(frozen=True, slots=True)
class Plateau:
    """A run that stands still.

    Attributes:
        finding: the rule that says so, and its numbers.
        countdown: epochs until it is time to act; 0 is now.
    """

    finding: Finding
    countdown: int


def plateau(history: History, limits: Limits, *, since: int = 0) -> Plateau | None:
    """Whether the run stands still, and for how long it may go on so.

    A function of the history alone, so that all ranks and a resumed run come to the same answer.

    Args:
        since: epoch of the last restart; what was before it does not count.
    """
    recent = [epoch for epoch in history.epochs if epoch.epoch > since]
    allowed = int(limits.stagnation_countdown)
    first: Finding | None = None
    standing = 0
    for end in range(len(recent), max(len(recent) - allowed - 1, 0), -1):
        finding = _stands(History(history.setup, recent[:end]), limits)
        if finding is None:
            break
        first, standing = first or finding, standing + 1
    return None if first is None else Plateau(first, max(allowed + 1 - standing, 0))


def _stands(history: History, limits: Limits) -> Finding | None:
    return stagnation(history, limits) or val_plateau(history, limits)
