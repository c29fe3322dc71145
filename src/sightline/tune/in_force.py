"""Which settings of a search space would do nothing in the runs that are planned, and why.

A search over a setting that nothing reads finds differences all the same: they are noise. What moves the weights
(optimizer, schedule, warm-up, batches a step) is not judged by rules but tried: the trainer sets its optimizer and
schedule up with one value and with another, and if every learning rate, momentum and decay of the run is the same, the
setting is not in force. What the images and the loss do with a setting follows a few rules, each beside its reason;
tests/tune/test_in_force.py trains a few steps to see that the rules are true.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from sightline.backends import attention_kernel
from sightline.config.groups.diagnosis import DiagnosisSettings
from sightline.config.groups.guards import GuardSettings
from sightline.config.groups.loss import LossSettings
from sightline.config.groups.optimisation import OptimisationSettings
from sightline.config.groups.output import OutputSettings
from sightline.config.groups.prediction import PredictionSettings
from sightline.config.groups.run import RunSettings
from sightline.config.groups.saving import SavingSettings
from sightline.config.groups.schedule import ScheduleSettings, WarmupSettings
from sightline.config.groups.validation import ValidationSettings
from sightline.config.settings import AUTO, Settings
from sightline.config.stages import AUGMENTATIONS, values_at
from sightline.errors import SettingsError, SettingValueError
from sightline.log import LOGGER
from sightline.losses.own import FUNCTION, OwnLoss
from sightline.tune.space import Space

# Settings that no search may touch, whatever the run: what is found would not be better, only different.
BUDGET = "it is how long a trial lasts, and longer is better: choose it, and the trials can be compared"
LUCK = "another seed is other luck, no better setting"
RULER = "it changes how a network is judged, not how good it is"
ELSEWHERE = "it changes where or how fast a run computes, what it writes or what it says, not what it learns"
PART_OF_TASK = "it changes what is to be learnt, so that trials could not be compared"
FOR_TROUBLE = "it says what is done when a run goes wrong, and a sound run does not ask for it"
OBJECTS = "its values are objects or tables, which have no order; run `sightline compare repeats=3 a.yaml b.yaml`"

NEVER: dict[str, str] = {
    **dict.fromkeys((*RunSettings.model_fields, *OutputSettings.model_fields, *SavingSettings.model_fields), ELSEWHERE),
    **dict.fromkeys(("cache", "cache_budget_gb", "loggers", "empty_cache_period", "dump_batches"), ELSEWHERE),
    **dict.fromkeys((*PredictionSettings.model_fields, *ValidationSettings.model_fields), RULER),
    **dict.fromkeys(("epochs", "time", "patience", "fraction"), BUDGET),
    **dict.fromkeys((*GuardSettings.model_fields, *DiagnosisSettings.model_fields), FOR_TROUBLE),
    **dict.fromkeys(("amp", "sync_bn", "backbone_weights", "cls_remap"), ELSEWHERE),
    **dict.fromkeys(("single_cls", "classes", "data", "resume"), PART_OF_TASK),
    **dict.fromkeys(("augmentations", "loss", "lr_groups", "augment_schedule", "loss_schedule", "preset"), OBJECTS),
    "seed": LUCK,
}
# What `_setup_optimization` of the trainer makes something of, so that it can be tried.
TRIED = {*OptimisationSettings.model_fields, *ScheduleSettings.model_fields, *WarmupSettings.model_fields} - {
    *("clip_grad", "clip_grad_value", "ema", "ema_decay", "ema_tau", "amp"),
}
TUNE = "tune"  # the origin of a value that was searched
PLACES = 6  # random ones of the space at which a setting is tried before it counts as without effect
MOST_EPOCHS = 60  # of a run whose learning rates are compared, evenly spaced

MIXING = ("mosaic", "mixup", "cutmix", "copy_paste")
OF_TERMS = {
    "box": ("box_loss", "giou_loss"),
    "dfl": ("dfl_loss", "l1_loss"),
    "pose": ("pose_loss",),
    "kobj": ("kobj_loss",),
    "rle": ("rle_loss",),
}


class Probe:
    """A run as the plan wants it, set up as far as its optimizer, in no folder; it never trains.

    Args:
        settings: of every trial, without what is searched.
        make: a trainer from settings.

    Attributes:
        base: what the settings come to in a run in which nothing is searched, `auto` decided.

    Raises:
        SettingsError, DataError, ModelError, MissingFileError: as the run itself would.
    """

    def __init__(self, settings: Settings, make: Callable[[Settings], Any]) -> None:
        self.settings = settings
        with quiet(), attention_kernel.restored():
            self.trainer = make(settings.copy())
            try:
                self.trainer._setup_network()
                self.trainer._build_train_pipeline()
                self.trainer.get_validator()  # which names the terms of the loss
            finally:
                self.trainer._close_loaders()
        self.base: Settings = self.trainer.args
        self.loss_names: tuple[str, ...] = tuple(self.trainer.loss_names)

    @property
    def classes(self) -> int:
        return int(self.trainer.data["nc"])

    def curves(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Every learning rate, momentum and decay of such a run, at moments that tell runs apart.

        Raises:
            SettingsError: the values do not fit together.
        """
        settings = self._set_up(values)
        optimizer, schedule = self.trainer.optimizer, self.trainer.schedule
        batches = len(self.trainer.train_loader)
        epochs = sorted({int(each) for each in np.linspace(0, settings.epochs - 1, min(settings.epochs, MOST_EPOCHS))})
        moments = {epoch * batches + batch for epoch in epochs for batch in (0, batches // 2, batches - 1)}
        moments |= {1, 2, schedule.warmup // 2, schedule.warmup, schedule.warmup + 1}
        rows: list[Any] = [type(optimizer).__name__, [len(group["params"]) for group in optimizer.param_groups]]
        for moment in sorted(each for each in moments if each < batches * settings.epochs):
            if moment % batches == 0 or not rows[2:]:
                schedule.at_epoch_start(moment // batches)
            accumulate = schedule.at_iteration(moment, moment // batches)
            rows.append((accumulate, [_numbers_of(group) for group in optimizer.param_groups]))
        return tuple(map(repr, rows))

    def _set_up(self, values: Mapping[str, Any]) -> Settings:
        settings = trial_settings(self.settings, values)
        if settings.batch < 1:  # what fits into the memory, as it was found for the probe
            settings.assign("batch", self.base.batch, origin=AUTO)
        with quiet():
            self.trainer.args = settings
            self.trainer.fill_defaults()
            self.trainer._setup_optimization()
        return settings


def trial_settings(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """Those of a trial: the values stand above everything else, and `auto` leaves them alone.

    Raises:
        SettingsError: the values do not fit together.
    """
    origins = {**settings.origins(), **dict.fromkeys(values, TUNE)}
    return Settings.from_dict({**dict(settings.items()), **values}, origins)


def without_effect(space: Space, probe: Probe) -> dict[str, str]:
    """Setting → why searching it would find nothing but noise; only those of which that is so."""
    found = {name: _by_rule(name, space, probe) for name in space}
    found |= {name: _by_trying(name, space, probe) for name in space if name in TRIED and not found[name]}
    return {name: reason for name, reason in found.items() if reason}


def _by_trying(name: str, space: Space, probe: Probe) -> str:
    """Set up the optimizer and schedule with several values, at several places of the rest of the space."""
    rng = np.random.default_rng(0)
    others = [each for each in space if each != name and each in TRIED]
    places: list[dict[str, Any]] = [{}]
    places += [{each: space[each].at(float(rng.random())) for each in others} for _ in range(PLACES if others else 0)]
    problem = ""
    for place in places:
        seen = set()
        for value in space[name].ends():
            try:
                seen.add(probe.curves({**place, name: value}))
            except SettingsError as error:
                problem = str(error)
        if len(seen) > 1:
            return ""
    if problem:
        return problem
    return (
        f"with optimizer={probe.base.optimizer} and the schedule of this run, every learning rate, momentum and decay "
        f"is the same for {', '.join(f'{name}={_shown(value)}' for value in space[name].ends()[:3])}"
        f"{_hint(name, probe.base)}"
    )


def _hint(name: str, base: Settings) -> str:
    for winner, loser in (("scheduler", "cos_lr"), ("warmup_steps", "warmup_epochs"), ("accumulate", "nbs")):
        if name == loser and getattr(base, winner) is not None:
            return f" ({winner}={getattr(base, winner)} decides)"
    if name.startswith("warmup_") and name not in ("warmup_epochs", "warmup_steps") and base.warmup_epochs == 0:
        return " (warmup_epochs=0: there is no warm-up)"
    return " (epochs=1: the learning rate moves from epoch to epoch)" if base.epochs == 1 else ""


def _by_rule(name: str, space: Space, probe: Probe) -> str:
    """What images, loss and average make of a setting."""
    base = probe.base

    def never(other: str, value: Any = 0) -> bool:
        """Whether a setting has this value in all trials."""
        if other in space:
            return all(each == value for each in space[other].ends())
        return bool(getattr(base, other) == value)

    unread = getattr(probe.trainer.network, "unread_settings", {})
    if name in unread:
        return str(unread[name])
    if base.loss is not None and name in LossSettings.model_fields and OwnLoss(base.loss).kind == FUNCTION:
        return "a loss that is a function does not read settings"
    if name in OF_TERMS and not set(OF_TERMS[name]) & set(probe.loss_names):
        return f"the loss of this network has no such term (it has {', '.join(probe.loss_names)})"
    if name in ("box_loss_weight", "cls_loss_weight", "dfl_loss_weight") and never(name.split("_")[0]):
        return f"{name.split('_')[0]}=0, and a factor on 0 changes nothing"
    if name in ("cls_pw", "label_smoothing", "class_weights") and probe.classes == 1:
        return "there is only one class"
    if name in ("ema_decay", "ema_tau") and never("ema", False):
        return "ema=False: there is no average of the weights"
    if name in (*MIXING, "mosaic_prob", "mosaic_tiles", "copy_paste_mode", "close_mosaic"):
        return _of_mixing(name, base, space, never)
    if name in AUGMENTATIONS:
        return _of_schedule(name, base)
    if name == "repeat_factor" and base.rect:
        return "rect=True keeps images in fixed batches"
    if name == "unfreeze_epoch" and "freeze" not in space and base.freeze in (None, 0, []):
        return "freeze is not set: nothing is frozen"
    return ""


def _of_mixing(name: str, base: Settings, space: Space, never: Callable[..., bool]) -> str:
    if base.rect:
        return "rect=True combines no images. Leave rect out"
    fixed = "close_mosaic" not in space
    if fixed and base.close_mosaic >= base.epochs:
        return (
            f"close_mosaic={base.close_mosaic} leaves no epoch of epochs={base.epochs} in which images are combined. "
            f"Give close_mosaic={max(base.epochs // 5, 1) if base.epochs > 1 else 0}"
        )
    if name in ("mosaic", "mosaic_prob", "mosaic_tiles"):
        for other in ("mosaic", "mosaic_prob"):
            if other != name and never(other):
                return f"{other}=0: there are no mosaics"
    if name == "copy_paste_mode" and never("copy_paste"):
        return "copy_paste=0: nothing is pasted"
    if name == "close_mosaic":
        if (never("mosaic") or never("mosaic_prob")) and all(never(other) for other in MIXING[1:]):
            return f"no images are combined ({', '.join(f'{other}=0' for other in MIXING)})"
        if space[name].ends()[0] >= base.epochs:
            return f"from close_mosaic=epochs={base.epochs} on it is all the same"
    return _of_schedule(name, base)


def _of_schedule(name: str, base: Settings) -> str:
    """Whether `augment_schedule` says a value of its own for every epoch."""
    if base.augment_schedule is None or name not in AUGMENTATIONS:
        return ""
    least, most = ({**dict.fromkeys(AUGMENTATIONS, 0.5), name: value} for value in (0.25, 0.75))
    for epoch in range(base.epochs):
        values = [values_at(base.augment_schedule, epoch, base.epochs, each)[name] for each in (least, most)]
        if values[0] != values[1]:
            return ""
    return "augment_schedule has its own value in every epoch"


def _numbers_of(group: Mapping[str, Any]) -> list[Any]:
    return [group.get(key) for key in ("lr", "momentum", "betas", "weight_decay")]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def check_names(space: Mapping[str, Any]) -> None:
    """
    Raises:
        SettingValueError: a setting that no search may touch.
    """
    for name in space:
        if name in NEVER:
            raise SettingValueError(f"{name} cannot be searched: {NEVER[name]}. Take it out of the space.")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of a probe is news: the trials say it, or nobody needs it."""
    before = LOGGER.level
    LOGGER.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        LOGGER.setLevel(before)
