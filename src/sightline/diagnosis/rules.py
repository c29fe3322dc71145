"""All rules, and `judge`, which asks each of them."""

from __future__ import annotations

from collections.abc import Callable

from sightline.config.limits import Limits
from sightline.diagnosis.finding import Finding
from sightline.diagnosis.history import History

RULES: tuple[Callable[[History, Limits], Finding | None], ...] = ()


def judge(history: History, limits: Limits | None = None) -> list[Finding]:
    """What there is to say about a run after its last epoch, gravest first."""
    limits = limits or Limits()
    return [finding for rule in RULES if (finding := rule(history, limits)) is not None]
