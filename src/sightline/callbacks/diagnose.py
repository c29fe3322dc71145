"""Watches a run and says what is wrong, with evidence and remedy: the rules of `diagnosis/` after every epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sightline.callbacks import run_facts
from sightline.callbacks.base import Callback
from sightline.callbacks.step_meter import StepMeter, Witnesses
from sightline.config.limits import Limits
from sightline.diagnosis import history as records
from sightline.diagnosis.finding import RANK, Finding
from sightline.diagnosis.history import Epoch, History
from sightline.diagnosis.rules import judge
from sightline.log import LOGGER

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer


class Diagnose(Callback):
    """Gathers on the device, reads once an epoch, speaks on the first rank, and each rule speaks once.

    What it sees goes into events.jsonl, a line for every epoch and every finding, so that `sightline doctor run` can
    judge the run again later.
    """

    def __init__(self) -> None:
        self.history = History()
        self.said: dict[str, str] = {}  # rule → severity with which it was said
        self.meter = StepMeter()
        self.witnesses: Witnesses | None = None
        self.start: dict[str, Any] = {}  # of the witnesses, from a checkpoint
        self.open = False  # an epoch has begun and is not recorded yet

    def state_dict(self) -> dict[str, Any]:
        return {
            "setup": records.to_plain(self.history.setup),
            "epochs": [records.to_plain(epoch) for epoch in self.history.epochs],
            "said": dict(self.said),
            "start": {} if self.witnesses is None else dict(self.witnesses.start),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history = records.history_from(state["setup"], state["epochs"])
        self.said, self.start = dict(state["said"]), dict(state["start"])

    # ------------------------------------------------------------------ moments

    def on_train_start(self, trainer: BaseTrainer) -> None:
        if not trainer.args.diagnosis:
            return
        self.history.setup = run_facts.setup_of(trainer)
        self.witnesses = Witnesses(trainer.network)
        for name, values in self.start.items():
            if name in self.witnesses.start and self.witnesses.start[name].shape == values.shape:
                self.witnesses.start[name] = values.to(trainer.device)
        trainer.events.add("setup", **records.to_plain(self.history.setup))
        self._say(trainer)

    def on_train_epoch_start(self, trainer: BaseTrainer) -> None:
        if self.witnesses is None:
            return
        self._catch_up(trainer)
        self.meter.begin(trainer)
        self.open = True

    def on_train_batch_start(self, trainer: BaseTrainer) -> None:
        if self.open:
            self.meter.batch_came()

    def on_before_optimizer_step(self, trainer: BaseTrainer) -> None:
        if self.open and self.witnesses is not None:
            self.meter.before_step(trainer, trainer.network, self.witnesses)

    def on_after_optimizer_step(self, trainer: BaseTrainer) -> None:
        if self.open and self.witnesses is not None:
            self.meter.after_step(trainer, trainer.network, self.witnesses)

    def on_train_batch_end(self, trainer: BaseTrainer) -> None:
        if self.open:
            self.meter.batch_ended(trainer)

    def on_train_epoch_end(self, trainer: BaseTrainer) -> None:
        if not self.open or self.witnesses is None:
            return
        average = getattr(trainer.ema, "ema", None) if trainer.args.ema else None
        lag = None if average is None else self.witnesses.lag(trainer.network, average)
        self.facts = self.meter.finish(lag)
        if trainer.precision.name == "fp16":
            self.facts["scale"] = float(trainer.scaler.get_scale())
        self.facts["lr"] = max(trainer.lr.values(), default=records.NAN)

    def on_fit_epoch_end(self, trainer: BaseTrainer) -> None:
        if not self.open:  # the final validation of best.pt
            return
        self.open = False
        facts = {**self.facts, **run_facts.losses_of(trainer), **run_facts.scores_of(trainer)}
        if trainer.rank == 0 and trainer.validated:
            facts |= run_facts.detections_of(trainer.validator)
        self.history.setup.epochs = trainer.epochs
        epoch = Epoch(trainer.epoch + 1, **facts)
        self.history.epochs.append(epoch)
        trainer.events.add("epoch", **records.to_plain(epoch))
        self._say(trainer)

    # ------------------------------------------------------------------ what is said

    def _say(self, trainer: BaseTrainer) -> None:
        if trainer.rank:
            return
        for finding in judge(self.history, Limits.named(trainer.args.diagnosis_limits)):
            if RANK[finding.severity] > RANK.get(self.said.get(finding.rule, ""), -1):
                self.said[finding.rule] = finding.severity
                trainer.events.add("finding", **finding.to_plain())
                say(finding)

    def _catch_up(self, trainer: BaseTrainer) -> None:
        """A checkpoint is written before its epoch is judged: what it lacks is in the table of the run."""
        table = trainer.history
        for number in range(self.history.number + 1, trainer.epoch + 1):
            if any(len(values) >= number for values in table.values()):
                whole = {name: values for name, values in table.items() if len(values) >= number}
                self.history.epochs.append(Epoch(number, **run_facts.recorded_epoch(whole, number - 1)))


def say(finding: Finding) -> None:
    (LOGGER.info if finding.severity == "note" else LOGGER.warning)(finding.line())
