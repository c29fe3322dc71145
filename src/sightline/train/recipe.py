"""What `optimizer=auto` decides.

`auto` fills only settings that nobody set; what it filled is in the log and in args.yaml, with origin "auto".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.log import LOGGER

if TYPE_CHECKING:
    from sightline.config.settings import Settings

FEW_STEPS = 10_000  # below this many optimizer steps, a run has none to give away to accumulation


def automatic(*, iterations: float, nc: int) -> tuple[str, float, float]:
    """Optimizer, learning rate and momentum for a run of `iterations` steps on `nc` classes.

    MuSGD for every length: on small sets it beat the reference's AdamW (docs/decisions/0003).
    """
    del iterations, nc  # arguments of the interface that people know; this rule needs neither
    return "MuSGD", 0.01, 0.9


def fill_automatic(settings: Settings, *, images: int, batches: int, nc: int) -> None:
    """Decide optimizer, lr0, momentum, warmup_bias_lr and nbs where the user left them to us."""
    if settings.optimizer != "auto":
        return
    name, lr, momentum = automatic(iterations=batches * settings.epochs, nc=nc)
    settings.assign("optimizer", name, origin="auto")  # also where the user wrote `auto`
    wanted = {"lr0": lr, "momentum": momentum, "warmup_bias_lr": 0.0}
    if batches * settings.epochs * settings.batch / settings.nbs < FEW_STEPS:
        wanted["nbs"] = settings.batch  # every batch steps
    for setting, value in wanted.items():
        if not settings.fill_auto(setting, value):
            LOGGER.info(f"optimizer=auto chose {name} and keeps your {setting}={getattr(settings, setting)}")
