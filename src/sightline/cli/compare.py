"""`sightline compare …`: runs that are there, or settings files that are to be run with several seeds first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.errors import UsageError

OWN = ("repeats", "metric", "at", "save_dir")
EXAMPLE = "Example: sightline compare runs/detect/base-* runs/detect/new-*"


def compare(words: Sequence[str]) -> int:
    """Do what the words say and return the exit code.

    Raises:
        UsageError: the words are wrong; nothing was started.
    """
    places = [word for word in words if "=" not in word or Path(word).exists()]
    own, rest = _own([word for word in words if word not in places])
    if not places:
        raise UsageError(f"compare needs runs (folders or results.csv), or repeats= and settings files. {EXAMPLE}")
    if rest:
        raise UsageError(f"compare does not know {rest[0]}. There is: {', '.join(f'{name}=' for name in OWN)}.")
    from sightline.artifacts.run_dir import increment_path
    from sightline.doctor import compare as side_by_side

    found = side_by_side.compare(places, metric=own.get("metric"), at=own.get("at", "end"))
    return _show(found, Path(own["save_dir"]) if "save_dir" in own else increment_path("runs/compare/compare"))


def _show(found: Any, folder: Path) -> int:
    from sightline.doctor.compare import write

    for line in found.lines():
        print(line)
    folder.mkdir(parents=True, exist_ok=True)
    picture, numbers = write(found, folder)
    print(f"curves in {picture}, numbers in {numbers}")
    return 0


def _own(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Our own words by name, and the others."""
    own: dict[str, str] = {}
    rest = []
    for word in words:
        name, value = word.removeprefix("--").split("=", 1)
        if name in OWN:
            own[name] = value
        else:
            rest.append(word)
    return own, rest
