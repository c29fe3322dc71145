"""The settings of the schedule, put in force: what they come to in this run, and which of them would do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.errors import SettingValueError
from sightline.log import LOGGER
from sightline.train.lr_shapes import LrShape
from sightline.train.schedule import batches_per_step, lr_scale_of, warmup_batches

if TYPE_CHECKING:
    from sightline.config.settings import Settings
    from sightline.train.trainer import BaseTrainer


def put_in_force(trainer: BaseTrainer) -> None:
    """Fill what follows from other settings, refuse what cannot be, and note what each setting does in this run.

    Raises:
        SettingValueError: lr_min is above the learning rate that the run starts from.
    """
    settings, batches = trainer.args, len(trainer.train_loader)
    shape = LrShape.from_settings(settings)
    if shape.scheduler == "onecycle" and settings.warmup_steps is None and settings.fill_auto("warmup_epochs", 0.0):
        trainer.in_force["warmup_epochs"] = "0, because onecycle comes up by itself"
    if shape.scheduler != "linear" or shape.restarts(settings.epochs):
        per = "each batch" if settings.scheduler_step == "iteration" else "each epoch"
        trainer.in_force["scheduler"] = f"{shape.describe(settings.epochs)}; set at {per}"
    given, factor = float(settings.lr0), lr_scale_of(settings)
    lr0 = given * factor
    if settings.lr_scale != "none":
        trainer.in_force["lr_scale"] = (
            f"lr0 {given:g} × {factor:.4g} = {lr0:.4g} for {settings.batch} images at a time, "
            f"{settings.lr_scale} from {settings.lr_base_batch}"
        )
    if settings.accumulate is not None:
        trainer.in_force["accumulate"] = (
            f"{settings.batch} images × {settings.accumulate} batches = {settings.batch * settings.accumulate:g} "
            "images behind each step, from the first on"
        )
    if settings.lr_min > lr0:
        raise SettingValueError(
            f"lr_min={settings.lr_min} is above the learning rate that the run starts from, lr0={lr0:.4g}: no learning "
            "rate could ever fall. Lower lr_min or raise lr0."
        )
    _say_what_does_nothing(settings, shape)
    if settings.warmup_steps:
        length, run = warmup_batches(settings, settings.epochs, batches), batches * settings.epochs
        trainer.in_force["warmup_steps"] = (
            f"{settings.warmup_steps} steps of {batches_per_step(settings)} batches = {length / batches:.3g} epochs"
        )
        if length >= run and settings.time is None:
            LOGGER.warning(
                f"warmup_steps={settings.warmup_steps} are {length} batches, but the run has only {run}: its learning "
                "rate never comes up to lr0."
            )


def _say_what_does_nothing(settings: Settings, shape: LrShape) -> None:
    """Settings that somebody gave and that nothing reads, beside the others."""
    restarts, epochs = shape.restarts(settings.epochs), settings.epochs
    reasons = {}
    if shape.scheduler == "constant":
        reasons["lrf"] = "scheduler=constant stays at lr0"
    if shape.scheduler != "step":
        reasons["step_epochs"] = f"scheduler={shape.scheduler} has no drops; it is for scheduler=step"
    if not restarts:
        none = f"the run of {epochs} epochs has no restart"
        reasons |= dict.fromkeys(("restart_epoch", "restart_factor", "restart_decay"), none)
    if settings.lr_scale == "none":
        reasons |= dict.fromkeys(("lr_base_batch", "lr_scale_damping"), "lr_scale is none")
    elif settings.batch <= settings.lr_base_batch:
        reasons["lr_scale_damping"] = f"batch={settings.batch} is not above lr_base_batch={settings.lr_base_batch}"
    if not warmup_batches(settings, epochs, 1000):
        reasons["warmup_start_factor"] = "there is no warm-up"
    if settings.time is not None:
        reasons.pop("restart_epoch", None)  # nobody knows yet how many epochs there will be
    for name, reason in reasons.items():
        value = getattr(settings, name)
        if settings.is_user_set(name) and value is not None and settings.origin(name) not in ("preset", "checkpoint"):
            LOGGER.warning(f"{name}={value} has no effect: {reason}.")
