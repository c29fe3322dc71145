"""All rules, and `judge`, which asks each of them."""

from __future__ import annotations

from collections.abc import Callable

from sightline.config.limits import Limits
from sightline.diagnosis import course, gradients, labels, learning
from sightline.diagnosis.finding import RANK, Finding
from sightline.diagnosis.history import History

Rule = Callable[[History, Limits], Finding | None]
RULES: tuple[Rule, ...] = (*labels.RULES, *learning.RULES, *gradients.RULES, *course.RULES)

# A run without labels is also flat and its head is dead: who knows the cause need not hear of what follows from it.
FOLLOWS: dict[str, frozenset[str]] = {
    "labels_missing": frozenset(
        {"no_positives", "dead_head", "loss_flat", "lr_too_high", "lr_too_low", "overfitting", "gradient_spikes"}
    ),
    "everything_frozen": frozenset({"dead_head", "loss_flat", "lr_too_low", "ema_not_following", "val_plateau"}),
    "no_positives": frozenset({"dead_head", "loss_flat", "lr_too_low", "gradient_spikes"}),
    "not_finite": frozenset({"loss_flat", "lr_too_high", "lr_too_low", "dead_head", "ema_not_following"}),
    "fp16_overflow": frozenset({"loss_flat", "lr_too_high", "lr_too_low", "dead_head", "ema_not_following"}),
    "lr_too_high": frozenset(
        {"exploding_gradient", "gradient_spikes", "dead_head", "overfitting", "loss_flat", "no_positives"}
    ),
    "lr_too_low": frozenset({"loss_flat", "ema_not_following"}),
    "dead_head": frozenset({"loss_flat"}),
    "overfitting": frozenset({"box_noise"}),
    "schedule_ended": frozenset({"val_plateau", "map_stagnation"}),
}


def judge(history: History, limits: Limits | None = None) -> list[Finding]:
    """What there is to say about a run after its last epoch, gravest first; consequences of a cause are left out."""
    limits = limits or Limits()
    found = [finding for rule in RULES if (finding := rule(history, limits)) is not None]
    names = {finding.rule for finding in found}
    known = frozenset[str]().union(*(FOLLOWS.get(name, frozenset()) for name in names))
    return sorted((f for f in found if f.rule not in known), key=lambda finding: -RANK[finding.severity])


def replay(history: History, limits: Limits | None = None) -> list[Finding]:
    """What would have been said during a run: after every epoch, each rule once, and again only if it gets graver."""
    said: dict[str, Finding] = {}
    order: list[Finding] = []
    for count in range(len(history) + 1):
        for finding in judge(History(history.setup, history.epochs[:count]), limits):
            if is_news(finding, said.get(finding.rule)):
                said[finding.rule] = finding
                order.append(finding)
    return order


def is_news(finding: Finding, before: Finding | None) -> bool:
    return before is None or RANK[finding.severity] > RANK[before.severity]
