"""Watches a run and says what is wrong, with evidence and remedy: the rules of `diagnosis/` after every epoch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sightline.callbacks import run_facts
from sightline.callbacks.base import Callback
from sightline.callbacks.step_meter import StepMeter, Witnesses
from sightline.config.limits import Limits
from sightline.diagnosis import history as records
from sightline.diagnosis.finding import RANK, Finding
from sightline.diagnosis.history import Epoch, History
from sightline.diagnosis.plan import review
from sightline.diagnosis.plateau import plateau
from sightline.diagnosis.rules import judge
from sightline.log import LOGGER

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer


RESTART_RATE = 0.5  # of the first learning rate: the least that a restart lifts it to, if it is not doubled anyway


class Diagnose(Callback):
    """Gathers on the device, reads once an epoch, speaks on the first rank, and each rule speaks once.

    What it sees goes into events.jsonl, a line for every epoch and every finding, so that `sightline doctor run` can
    judge the run again later.
    """

    def __init__(self) -> None:
        self.history = History()
        self.said: dict[str, str] = {}  # rule → severity with which it was said
        self.findings: list[Finding] = []  # said by this process
        self.meter = StepMeter()
        self.witnesses: Witnesses | None = None
        self.start: dict[str, Any] = {}  # of the witnesses, from a checkpoint
        self.facts: dict[str, Any] = {}  # of the epoch at hand, from its steps
        self.open = False  # an epoch has begun and is not recorded yet
        self.epoch = 0  # which one, from 0
        self.unfinished: dict[str, Any] = {}  # of the meter, from a checkpoint in the middle of an epoch
        self.restarts: list[list[float]] = []  # [last epoch before it (from 1), factor on the first learning rates]

    def state_dict(self) -> dict[str, Any]:
        return {
            "setup": records.to_plain(self.history.setup),
            # Without the one number that is a matter of time: equal runs have equal checkpoints.
            "epochs": [records.to_plain(replace(epoch, loader_share=records.NAN)) for epoch in self.history.epochs],
            "said": dict(self.said),
            "restarts": [list(pair) for pair in self.restarts],
            "unfinished": {"epoch": self.epoch, **self.meter.state_dict()} if self.open else {},
            "start": {} if self.witnesses is None else {name: v.cpu() for name, v in self.witnesses.start.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history = records.history_from(state["setup"], state["epochs"])
        self.said, self.start = dict(state["said"]), dict(state["start"])
        self.restarts = [list(pair) for pair in state["restarts"]]
        self.unfinished = dict(state["unfinished"])
        self._take_up()

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
        if not trainer.args.resume:
            self._review_settings(trainer)
        self._say(trainer)

    def on_train_epoch_start(self, trainer: BaseTrainer) -> None:
        if self.witnesses is None:
            return
        self._catch_up(trainer)
        self._act_on_plateau(trainer)
        self.meter.begin(trainer)
        self.open, self.epoch = True, trainer.epoch
        self._take_up()

    def on_train_batch_start(self, trainer: BaseTrainer) -> None:
        if not self.open:
            return
        self.meter.batch_came()
        if trainer.batch_index == 0:
            # By now every callback has frozen what it wants frozen, and no step has failed yet.
            before = self.history.setup.trainable
            self.history.setup.trainable = sum(p.numel() for p in trainer.network.parameters() if p.requires_grad)
            if self.history.setup.trainable == 0 != before:
                self._say(trainer)

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
        self.facts["lr"] = run_facts.learning_rate(trainer)

    def on_fit_epoch_end(self, trainer: BaseTrainer) -> None:
        if not self.open:  # the final validation of best.pt
            return
        self.open = False
        facts = {**self.facts, **run_facts.losses_of(trainer), **run_facts.scores_of(trainer)}
        if trainer.rank == 0 and trainer.validated:
            facts |= run_facts.detections_of(trainer.validator)
        self.history.setup.epochs = trainer.epochs
        self.history.setup.precision = trainer.precision.name  # a rollback takes a safer one
        epoch = Epoch(trainer.epoch + 1, **facts)
        self.history.epochs.append(epoch)
        trainer.events.add("epoch", **records.to_plain(epoch))
        self._say(trainer)

    def _take_up(self) -> None:
        """Go on with an epoch in whose middle the checkpoint was written; it may be read before and after it begins."""
        if self.open and self.unfinished and self.unfinished["epoch"] == self.epoch:
            self.meter.load_state_dict(self.unfinished)

    # ------------------------------------------------------------------ what is said

    def _review_settings(self, trainer: BaseTrainer) -> None:
        """The lines of `sightline doctor settings`."""
        if trainer.rank == 0:
            for finding in review(run_facts.plan_of(trainer)):
                self._publish(trainer, finding)

    def _say(self, trainer: BaseTrainer) -> None:
        if trainer.rank:
            return
        for finding in judge(self.history, Limits.named(trainer.args.diagnosis_limits)):
            if RANK[finding.severity] > RANK.get(self.said.get(finding.rule, ""), -1):  # as in `rules.replay`
                self._publish(trainer, finding)

    def _publish(self, trainer: BaseTrainer, finding: Finding) -> None:
        self.said[finding.rule] = finding.severity
        self.findings.append(finding)
        trainer.events.add("finding", **finding.to_plain())
        say(finding)

    def _act_on_plateau(self, trainer: BaseTrainer) -> None:
        """Before an epoch, so that the last one knows it. All ranks have the same numbers, so they agree."""
        action, limits = trainer.args.on_plateau, Limits.named(trainer.args.diagnosis_limits)
        since = int(self.restarts[-1][0]) if self.restarts else 0
        if action == "warn" or trainer.epoch <= since:
            return
        found = plateau(self.history, limits, since=since)
        if found is None:
            return
        if found.countdown == limits.stagnation_countdown:
            self._tell(
                trainer,
                f"{found.finding.evidence}; on_plateau={action} when {found.countdown} more epochs bring nothing",
            )
        if found.countdown:
            return
        if action == "stop":
            trainer.stop_training = True
            self._tell(trainer, f"on_plateau=stop: {found.finding.evidence}, so epoch {trainer.epoch + 1} is the last")
        else:
            self._restart(trainer, found.finding)

    def _restart(self, trainer: BaseTrainer, finding: Finding) -> None:
        """Lift the learning rates towards where they began; they fall from there along the same curve."""
        factor = trainer.schedule.factor(trainer.epoch) if trainer.schedule.factor is not None else None
        before = self.restarts[-1][1] if self.restarts else 1.0
        lift = before
        if factor:
            now = before * factor  # as a part of the first rates
            lift = max(before, min(1.0, max(RESTART_RATE, 2 * now)) / factor)
        self.restarts.append([trainer.epoch, lift])
        for group in trainer.optimizer.param_groups:
            if "initial_lr" in group:
                group["initial_lr"] *= lift / before
        self._tell(
            trainer, f"on_plateau=restart: {finding.evidence}, so the learning rate is lifted {lift / before:.3g}-fold"
        )

    def _tell(self, trainer: BaseTrainer, text: str) -> None:
        trainer.events.add("plateau", epoch=trainer.epoch, text=text)
        if trainer.rank == 0:
            LOGGER.warning(text)

    def _catch_up(self, trainer: BaseTrainer) -> None:
        """A checkpoint is written before its epoch is judged: what it lacks is in the table of the run."""
        table = trainer.history
        for number in range(self.history.number + 1, trainer.epoch + 1):
            if any(len(values) >= number for values in table.values()):
                whole = {name: values for name, values in table.items() if len(values) >= number}
                self.history.epochs.append(Epoch(number, **run_facts.recorded_epoch(whole, number - 1)))


def say(finding: Finding) -> None:
    (LOGGER.info if finding.severity == "note" else LOGGER.warning)(finding.line())
