"""What methods that users override give back, checked where it comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sightline.errors import TrainingError


def returned(value: Any, method: Callable[..., Any]) -> Any:
    """The value, if there is one.

    Raises:
        TrainingError: None, so the method forgot to return; the message names it.
    """
    if value is None:
        raise TrainingError(f"{method.__qualname__}() returned nothing. End it with a `return`.")
    return value


def checked_results(given: Any) -> tuple[dict[str, float] | None, float | None]:
    """What `validate` may return: (metrics, fitness), each of them or the pair None."""
    if given is None:
        return None, None
    if not (isinstance(given, tuple | list) and len(given) == 2):
        raise TrainingError(
            f"validate() returned {given!r:.80} ({type(given).__name__}). It returns a pair: a dict of metrics "
            "and the fitness, a number; or None for no result."
        )
    metrics, fitness = given
    if not (metrics is None or isinstance(metrics, Mapping)):
        raise TrainingError(f"validate() returned metrics of {type(metrics).__name__}. They are a dict, or None.")
    numbers = None if metrics is None else {name: _number(value, f"metric {name}") for name, value in metrics.items()}
    return numbers, _number(fitness, "fitness")


def _number(value: Any, what: str) -> float | None:
    """A plain number from whatever stands for one: Python's, numpy's, a tensor of one element."""
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise TrainingError(
            f"validate() returned {value!r:.80} as the {what}. It is a number, or None; keep what is more than a "
            "number in an attribute of your own."
        ) from None
