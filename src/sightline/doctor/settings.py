"""`sightline doctor settings model=… data=… …`: what is risky about settings, before a run is started with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sightline.backends import attention_kernel
from sightline.callbacks.run_facts import plan_of
from sightline.config.kinds import FIND
from sightline.config.settings import Settings
from sightline.diagnosis.finding import Finding
from sightline.diagnosis.plan import Plan, review
from sightline.doctor.run import MARKS
from sightline.doctor.task import settle_task
from sightline.errors import SettingValueError
from sightline.tasks import get_task


class SettingsReport:
    """A plan and what is risky about it."""

    def __init__(self, plan: Plan, findings: list[Finding]) -> None:
        self.plan = plan
        self.findings = findings

    def lines(self) -> Iterator[str]:
        plan = self.plan
        devices = f" on {plan.processes} processes" if plan.processes > 1 else ""
        batches = "1 batch" if plan.batches == 1 else f"{plan.batches} batches"
        yield (
            f"{plan.optimizer} lr0={plan.learning_rate:g}, batch={plan.batch}{devices} × {plan.accumulate} = "
            f"{plan.images_per_step} images a step, {plan.epochs} epochs of {batches}"
        )
        for finding in self.findings:
            yield f"{MARKS[finding.severity]} {finding.rule.replace('_', ' ')}: {finding.evidence}. {finding.remedy}"
        if not self.findings:
            yield "Nothing risky was found."


def examine(settings: Settings, source: Any = None) -> SettingsReport:
    """Set a run up as far as its optimizer, without a run folder, and look at what it would be.

    Args:
        settings: of a training.
        source: weights or a network to start from, as a trainer's `source`.

    Raises:
        SettingsError, DataError, MissingFileError: as the run itself would.
    """
    if settings.lr0 == FIND:
        raise SettingValueError(
            "lr0=find is not known before the test: run `sightline lr-find` with these settings, and give doctor the "
            "lr0 that it prints, or leave lr0 out."
        )
    settle_task(settings, source)
    trainer = get_task(settings.task).load("trainer")(cfg=settings)
    trainer.source = source
    with attention_kernel.restored():
        try:
            trainer._setup_network()
            trainer._build_train_pipeline()
            plan = plan_of(trainer)
        finally:
            trainer._close_loaders()
    return SettingsReport(plan, review(plan))
