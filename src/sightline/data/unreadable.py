"""Images that can no longer be read in the middle of a run: how many, which, and what is said about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

KEY = "unreadable"  # of a row or batch in which it happened: (path, reason) pairs for each sample
MOST_IN_A_ROW = 100  # images tried in the place of one; more than that is not a bad file but a missing disk
SHOWN = 3  # files named in a message


class Unreadable:
    """Counts by file, since the last report.

    Attributes:
        named: files that a message has named, so that the next ones need not.
    """

    def __init__(self) -> None:
        self.named: set[str] = set()
        self.times: dict[str, int] = {}
        self.reasons: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self.times)

    def add(self, path: str, reason: str, times: int = 1) -> None:
        self.times[path] = self.times.get(path, 0) + times
        self.reasons[path] = reason

    def take_from(self, batch: dict[str, Any]) -> None:
        """Count what a batch reports, and remove it there."""
        for pairs in batch.pop(KEY, ()):
            for path, reason in pairs:
                self.add(path, reason)

    def take(self) -> dict[str, tuple[int, str]]:
        """Path → (times, reason) since the last call."""
        found = {path: (times, self.reasons[path]) for path, times in self.times.items()}
        self.times, self.reasons = {}, {}
        return found


def merged(parts: Iterable[Mapping[str, tuple[int, str]]]) -> dict[str, tuple[int, str]]:
    """What several ranks took, as one."""
    together = Unreadable()
    for part in parts:
        for path, (times, reason) in part.items():
            together.add(path, reason, times)
    return together.take()


def describe(found: Mapping[str, tuple[int, str]], what: str) -> str:
    """A sentence: `2 images cannot be read any more and were replaced by others (5 times): …`."""
    total = sum(times for times, _ in found.values())
    reasons = "; ".join(reason.rstrip(".") for _, reason in list(found.values())[:SHOWN])
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    images = "1 image" if len(found) == 1 else f"{len(found)} images"
    were = "was" if len(found) == 1 else "were"
    return f"{images} cannot be read any more and {were} {what} ({total}×): {reasons}{more}."


def describe_again(found: Mapping[str, tuple[int, str]], what: str) -> str:
    """The same for files that were named before: how many and how often."""
    images, were = ("1 image", "was") if len(found) == 1 else (f"{len(found)} images", "were")
    return f"{images} that could not be read before {were} {what} again ({sum(times for times, _ in found.values())}×)"
