"""What a setting that is changed on resume does to the run: it stays the same run, it becomes another, or it cannot be.

The table in docs/resume.md is made of these sets. A setting that is in none of them forks the run: that is always true
enough to be said, and a new setting that nobody has thought about here is then not promised too much.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config.settings import DEFAULTS
from sightline.errors import SettingValueError
from sightline.log import LOGGER
from sightline.train import live_settings
from sightline.train.lr_groups import LR_FACTORS
from sightline.train.schedule import lr_scale, lr_scale_of

if TYPE_CHECKING:
    from sightline.config.settings import Settings
    from sightline.train.trainer import BaseTrainer

# What the states in a checkpoint decide, so that another value would not be in force.
REFUSED = frozenset(
    {"task", "optimizer", *LR_FACTORS, "single_cls", "pretrained", "backbone_weights", "cls_remap", "norm"}
)

# Where things are, what is shown and kept beside the weights, and how fast: the weights come out the same to the last
# bit. What validation measures is not among them: it decides when a run stops early, and a last step depends on that.
KEEPS = frozenset(
    {
        "resume", "model", "cfg", "mode", "project", "name", "save_dir", "exist_ok", "verbose", "plots", "dry_run",
        "save", "save_period", "save_every_steps", "save_minutes", "watchdog", "workers", "cache", "cache_budget_gb",
        "log_metrics", "save_json", "coco_eval", "dump_batches", "empty_cache_period", "loggers", "report",
        "lr_find_steps", "lr_find_min", "lr_find_max", "batch_find_steps", "batch_find_max",
    }
)  # fmt: skip


def check(path: Path, settings: Settings, given: set[str], before: dict[str, Any]) -> None:
    """Say what the settings that are given with `resume` change, before anything is started.

    Args:
        given: names of settings that the user has set now.
        before: all values as the checkpoint has them.

    Raises:
        SettingValueError: one that the restored state decides is another than before; in args.yaml it would be a lie.
    """
    now = settings.to_dict()
    changed = [name for name in now if name in given and name in before and now[name] != before[name]]
    refused = [name for name in changed if name in REFUSED]
    if refused:
        wanted = " ".join(f"{name}={now[name]}" for name in refused)
        raise SettingValueError(
            f"resume={path}: {wanted} cannot change in a run that goes on; it has "
            f"{', '.join(f'{name}={before[name]}' for name in refused)}. Leave it out, "
            f"or start a new run from the weights: model={path} {wanted}"
        )
    forked = [f"{name}={now[name]} (was {before[name]})" for name in changed if name not in KEEPS]
    if forked:
        LOGGER.warning(
            f"resume={path}: {', '.join(forked)}: allowed, but from here on this is another run than the one that was "
            "interrupted (docs/resume.md)"
        )


def put_in_force(trainer: BaseTrainer, before: dict[str, Any]) -> None:
    """After the optimizer's state is back, which holds the old values: the new ones that it must follow.

    Args:
        before: all values as the checkpoint has them.
    """
    for names, apply in FORKS:
        if any(name in before and getattr(trainer.args, name, None) != before[name] for name in names):
            apply(trainer, before)


def _learning_rate(trainer: BaseTrainer, before: dict[str, Any]) -> None:
    """Every group keeps its ratio, and its place in warm-up and schedule."""
    for group in trainer.optimizer.param_groups:
        if before["lr0"]:
            for name in ("initial_lr", "lr"):
                group[name] *= float(trainer.args.lr0) / before["lr0"]
        else:  # from 0 no ratio leads anywhere
            group["initial_lr"] = float(trainer.args.lr0) * _scale_of(before) * group.get("lr_factor", 1.0)


def _lr_scale(trainer: BaseTrainer, before: dict[str, Any]) -> None:
    """The factor that `lr_scale` asks for now in the place of the one before."""
    for group in trainer.optimizer.param_groups:
        for name in ("initial_lr", "lr"):
            group[name] *= lr_scale_of(trainer.args) / _scale_of(before)


def _scale_of(before: dict[str, Any]) -> float:
    return lr_scale(*(before.get(name, DEFAULTS[name]) for name in LR_SCALE))


def _weight_decay(trainer: BaseTrainer, before: dict[str, Any]) -> None:
    live_settings.APPLY["weight_decay"](trainer, before["weight_decay"])


def _momentum(trainer: BaseTrainer, before: dict[str, Any]) -> None:
    for group in trainer.optimizer.param_groups:
        if "momentum" in group:
            group["momentum"] = trainer.args.momentum
        elif "betas" in group:
            group["betas"] = (trainer.args.momentum, group["betas"][1])


def _accumulation(trainer: BaseTrainer, before: dict[str, Any]) -> None:
    if hasattr(trainer.schedule, "target"):  # a schedule of torch has none
        trainer.schedule.accumulate = trainer.schedule.target


LR_SCALE = ("lr_scale", "batch", "lr_base_batch", "lr_scale_damping")
Apply = Callable[["BaseTrainer", dict[str, Any]], None]
FORKS: tuple[tuple[tuple[str, ...], Apply], ...] = (
    (("lr0",), _learning_rate),
    (LR_SCALE, _lr_scale),
    (("weight_decay", "batch", "nbs", "accumulate"), _weight_decay),  # decay follows the images behind a step
    (("momentum",), _momentum),
    (("batch", "nbs", "accumulate"), _accumulation),
)
