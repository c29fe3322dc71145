"""Stages of a run: the gains of the loss and the augmentation as they are in the current epoch.

The gains reach every loss through the network's `args`, which is a `StagedGains`. The augmentation travels with each
sample key (data/sampler.py), so that a worker process, a restart or another number of ranks makes no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sightline.config.moments import epoch_of
from sightline.config.stages import AUGMENTATIONS, GAINS, stage_number, values_at
from sightline.data.own_loader import passes_augmentation_on
from sightline.errors import SettingValueError
from sightline.log import LOGGER
from sightline.train.ema import unwrap

if TYPE_CHECKING:
    from sightline.config.settings import Settings
    from sightline.train.trainer import BaseTrainer

SCHEDULES = ("loss_schedule", "augment_schedule")
WEIGHTS = ("box_loss_weight", "cls_loss_weight", "dfl_loss_weight")


class StagedGains:
    """The settings of a run, of which those of `GAINS` are the gains in force: setting × weight × stage.

    Everything else is read from, and written to, the settings themselves.
    """

    _settings: Settings
    epoch: int

    def __init__(self, settings: Settings) -> None:
        object.__setattr__(self, "_settings", settings)
        object.__setattr__(self, "epoch", 0)

    @property
    def box(self) -> float:
        return self._gain("box")

    @property
    def cls(self) -> float:
        return self._gain("cls")

    @property
    def dfl(self) -> float:
        return self._gain("dfl")

    @property
    def pose(self) -> float:
        return self._gain("pose")

    @property
    def kobj(self) -> float:
        return self._gain("kobj")

    @property
    def rle(self) -> float:
        return self._gain("rle")

    def enter(self, epoch: int) -> None:
        object.__setattr__(self, "epoch", epoch)

    def _gain(self, name: str) -> float:
        gain: float = getattr(self._settings, name)
        if f"{name}_loss_weight" in WEIGHTS:
            gain *= getattr(self._settings, f"{name}_loss_weight")
        if self._settings.loss_schedule is not None:
            gain *= loss_factors(self._settings, self.epoch)[name]
        return gain

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_settings":  # while a copy is being made there are no settings yet
            raise AttributeError(name)
        return getattr(self._settings, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._settings, name, value)


def loss_factors(settings: Settings, epoch: int) -> dict[str, float]:
    """Factor on each gain in an epoch."""
    return values_at(settings.loss_schedule or [], epoch, settings.epochs, dict.fromkeys(GAINS, 1.0))


def put_in_force(trainer: BaseTrainer) -> None:
    """Give the network the gains by stage, keep the augmentation to start from, and note what the stages do.

    Raises:
        SettingValueError: a schedule that would not be in force.
    """
    network, settings = unwrap(trainer.model), trainer.args
    staged = [name for name in WEIGHTS if getattr(settings, name) != 1]
    staged += [] if settings.loss_schedule is None else ["loss_schedule"]
    if getattr(network, "args", None) is settings:
        network.args = StagedGains(settings)
    elif staged and not isinstance(getattr(network, "args", None), StagedGains):
        raise SettingValueError(
            f"{staged[0]} would not be in force: set_model_attributes() of {type(trainer).__name__} gave the network "
            f"other settings than trainer.args. Call super().set_model_attributes() in it, or leave {staged[0]} out."
        )
    trainer.unstaged_augmentation = {name: float(getattr(settings, name)) for name in AUGMENTATIONS}
    if settings.augment_schedule is not None and not passes_augmentation_on(trainer.train_loader):
        raise SettingValueError(
            f"augment_schedule would not be in force: get_dataloader() of {type(trainer).__name__} returned a "
            f"{type(trainer.train_loader).__name__} that does not read sightline's data set. Build it with super(), or "
            "leave augment_schedule out."
        )
    for name in staged:
        if name in WEIGHTS:
            gain = name.removesuffix("_loss_weight")
            weight = getattr(settings, name)
            trainer.in_force[name] = (
                f"gain {gain} {getattr(settings, gain):g} × {weight:g} = {getattr(settings, gain) * weight:g}"
            )
    for name in SCHEDULES:
        if getattr(settings, name) is not None:
            trainer.in_force[name] = describe(getattr(settings, name), settings.epochs, late=settings.time is not None)


def enter(trainer: BaseTrainer, epoch: int) -> None:
    """The gains of this epoch are in force; a new stage is said."""
    gains = getattr(unwrap(trainer.model), "args", None)
    if isinstance(gains, StagedGains):
        gains.enter(epoch)
    settings = trainer.args
    for name in SCHEDULES:
        schedule = getattr(settings, name)
        if schedule is None or epoch == 0:
            continue
        number, before = (stage_number(schedule, each, settings.epochs) for each in (epoch, epoch - 1))
        if number != before:
            LOGGER.info(f"epoch {epoch + 1}: {name} {_what(schedule, number)}")


def augmentation(trainer: BaseTrainer) -> tuple[tuple[str, float], ...]:
    """What `augment_schedule` changes in this epoch, as it goes into the keys of its samples; () for nothing."""
    schedule = trainer.args.augment_schedule
    if schedule is None:
        return ()
    return tuple(values_at(schedule, trainer.epoch, trainer.args.epochs, trainer.unstaged_augmentation).items())


def describe(schedule: list[dict[str, Any]], epochs: int, *, late: bool = False) -> str:
    """`to epoch 100 box 1.5, cls 0.8; to epoch 450 as set; then box 0.7 (over 10 epochs)`."""
    parts = []
    for stage in schedule:
        until = stage.get("until")
        share = until is not None and until < 1 and late  # of a run whose length nobody knows yet
        end = (
            "then" if until is None else f"to {until:g} of the run" if share else f"to epoch {epoch_of(until, epochs)}"
        )
        parts.append(f"{end} {_values(stage)}")
    return "; ".join(parts)


def _what(schedule: list[dict[str, Any]], number: int) -> str:
    if number > len(schedule):
        return "is over: as set"
    return f"stage {number} of {len(schedule)}: {_values(schedule[number - 1])}"


def _values(stage: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name} {value:g}" for name, value in stage.items() if name not in ("until", "transition"))
    fade = f" (over {stage['transition']} epochs)" if stage.get("transition") else ""
    return f"{values or 'as set'}{fade}"
