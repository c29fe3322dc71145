"""One thing that is wrong, or worth knowing: what, how we know, and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["note", "warning", "error"]
RANK: dict[str, int] = {"note": 0, "warning": 1, "error": 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule has to say.

    Attributes:
        rule: its name, as in docs/diagnosis.md.
        severity: "error": this run cannot come to anything; "warning": something is wrong; "note": true and useful, and
            no reason to worry.
        evidence: the numbers that show it.
        remedy: what to do next.
        epoch: after which it was said, counted from 1; 0 before the first.
    """

    rule: str
    severity: Severity
    evidence: str
    remedy: str
    epoch: int = 0

    def line(self) -> str:
        """For people."""
        when = f"epoch {self.epoch}" if self.epoch else "before the first epoch"
        return f"{self.rule.replace('_', ' ')} ({when}): {self.evidence}. {self.remedy}"

    def to_plain(self) -> dict[str, Any]:
        return asdict(self)
