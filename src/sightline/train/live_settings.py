"""Settings that a method or callback changes while a run is going on: what holds copies of them follows, and says so.

`trainer.args.box = 5` is checked when it is assigned and in force from the next batch on. What can no longer be
changed, because it went into something that has been built (the loaders, the network), is named in a warning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sightline.config.groups.schedule import ScheduleSettings, WarmupSettings
from sightline.config.kinds import FIND
from sightline.config.rivals import RIVALS
from sightline.errors import SettingValueError
from sightline.log import LOGGER
from sightline.train import stages
from sightline.train.ema import decay_of
from sightline.train.precision import choose
from sightline.train.schedule import scaled_weight_decay

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

# Read from the settings at the moment they are needed, so there is nothing to do.
READ_WHEN_NEEDED = {
    *("box", "cls", "dfl", "clip_grad", "clip_grad_value", "multi_scale", "close_mosaic", "time", "verbose"),
    *("focal_gamma", "label_smoothing", *stages.WEIGHTS, *stages.SCHEDULES),
    *("val", "val_interval", "save", "save_period", "save_every_steps", "save_minutes", "freeze_bn"),
    *("nan_patience", "spike_factor", "spike_patience", "snapshot_steps", "rollback_lr_factor", "max_rollbacks"),
    *("dump_batches", "empty_cache_period"),
}
SCHEDULE = {"epochs", "momentum", *ScheduleSettings.model_fields, *WarmupSettings.model_fields}
VALIDATOR = {"conf", "iou", "max_det", "nms", "agnostic_nms", "save_json", "plots"}
# Read when the trainer was made or its folder opened, before anything else of the set-up.
READ_FIRST = {
    "device",
    "data",
    "seed",
    "deterministic",
    "task",
    "project",
    "name",
    "save_dir",
    "exist_ok",
    "resume",
    "preset",
}


class LiveSettings:
    """Watches the settings of a trainer."""

    def __init__(self, trainer: BaseTrainer) -> None:
        self.trainer = trainer
        self.version = 0
        self.values: dict[str, Any] = {}
        self._remember()

    def begin(self) -> None:
        """The set-up has read what it needed; changes made since the trainer was made are in force but for some."""
        changed = self._changes()
        for name in ("amp", "patience"):
            if name in changed:
                APPLY[name](self.trainer, self.values[name])
        self._warn({name: value for name, value in changed.items() if name in READ_FIRST})
        self._remember()

    def follow(self) -> None:
        """Bring what has changed since the last call into force."""
        if self.trainer.args.version == self.version:
            return
        changed, before = self._changes(), self.values
        self._remember()
        late = {name: value for name, value in changed.items() if not self._apply(name, before[name])}
        by_user = {name: value for name, value in changed.items() if self.trainer.args.origin(name) != "auto"}
        if SCHEDULE & by_user.keys():
            self.trainer.schedule.follow(self.trainer.args)
        for name, value in by_user.items():
            if name not in late:
                place = self.trainer.place
                LOGGER.info(f"{name}={value} from {place} on; it was {before[name]}")
        self._warn(late)
        self._say_what_is_replaced(by_user)
        if changed:
            self.trainer.write_args()

    def _remember(self) -> None:
        self.version = self.trainer.args.version
        self.values = dict(self.trainer.args.items())

    def _changes(self) -> dict[str, Any]:
        return {name: value for name, value in self.trainer.args.items() if not _same(value, self.values[name])}

    def _warn(self, late: Mapping[str, Any]) -> None:
        if late:
            values = ", ".join(f"{name}={value}" for name, value in late.items())
            LOGGER.warning(
                f"{values}: changed after what it goes into was built, so it has no effect in this run. Change it "
                "before training starts: in the call, for example."
            )

    def _say_what_is_replaced(self, changed: Mapping[str, Any]) -> None:
        """A change of `nbs` while `accumulate` says how many batches make a step, and its like."""
        for name, other in RIVALS.items():
            value = getattr(self.trainer.args, name)
            if value is not None and other in changed and name not in changed:
                LOGGER.warning(
                    f"{other}={changed[other]} has no effect: {name}={value} decides; set {name}=None first."
                )

    def _apply(self, name: str, old: Any) -> bool:
        """Whether a changed setting is in force from now on."""
        if name in APPLY:
            APPLY[name](self.trainer, old)
        if name in VALIDATOR and self.trainer.validator is not None:  # it has settings of its own
            self.trainer.validator.args.assign(name, self.values[name], origin=self.trainer.args.origin(name))
        return name in APPLY or name in VALIDATOR or name in READ_WHEN_NEEDED or name in SCHEDULE


def _same(value: Any, before: Any) -> bool:
    return value is before or (type(value).__module__ == "builtins" and type(value) is type(before) and value == before)


def _learning_rate(trainer: BaseTrainer, old: float) -> None:
    """Every group keeps its ratio to lr0."""
    if trainer.args.lr0 == FIND:
        trainer.args.assign("lr0", old, origin="auto")
        raise SettingValueError("lr0=find looks for the rate of a run that begins; while one goes on, give a number.")
    for group in trainer.optimizer.param_groups:
        ratio = group["initial_lr"] / old if old else 1.0
        group["initial_lr"] = ratio * float(trainer.args.lr0)
    trainer.schedule.at_epoch_start(trainer.epoch)


def _weight_decay(trainer: BaseTrainer, old: Any) -> None:
    """Groups that decay, by the images behind a step; those of norms and biases still do not."""
    settings = trainer.args
    decay = scaled_weight_decay(settings.weight_decay, trainer.batch_size, settings.nbs, settings.accumulate)
    for group in trainer.optimizer.param_groups:
        if group.get("param_group") not in ("bn", "bias"):
            group["weight_decay"] = decay


def _patience(trainer: BaseTrainer, old: int) -> None:
    trainer.stopper.patience = trainer.args.patience or math.inf


def _precision(trainer: BaseTrainer, old: Any) -> None:
    trainer.precision = choose(trainer.args.amp, trainer.device)
    trainer.scaler = trainer.precision.scaler


def _average(trainer: BaseTrainer, old: float) -> None:
    trainer.ema.final_decay, trainer.ema.tau = decay_of(trainer.args), trainer.args.ema_tau


# What holds a copy of the setting, and how it is told; called with the trainer and the old value.
APPLY: dict[str, Callable[[BaseTrainer, Any], None]] = {
    "lr0": _learning_rate,
    "weight_decay": _weight_decay,
    "accumulate": _weight_decay,
    "nbs": _weight_decay,
    "patience": _patience,
    "amp": _precision,
    "ema": _average,
    "ema_decay": _average,
    "ema_tau": _average,
}
