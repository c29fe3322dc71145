"""What `optimizer=auto` decides.

`auto` fills only settings that nobody set; what it filled is in the log and in args.yaml, with origin "auto".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sightline.log import LOGGER

if TYPE_CHECKING:
    from sightline.config.settings import Settings

FEW_STEPS = 10_000  # below this many optimizer steps, a run has none to give away to accumulation

# At the end of a run the average should look back over a few hundredths of its steps: with τ = steps / 4.2 the decay
# ends at 1 - 1/67, so over 5% of 1,300 steps. Long runs keep the reference's 2,000.
STEPS_PER_TAU = 4.2


def automatic(*, iterations: float, nc: int) -> tuple[str, float, float]:
    """Optimizer, learning rate and momentum for a run of `iterations` steps on `nc` classes.

    MuSGD for every length: on small sets it beat the reference's AdamW (docs/decisions/0003).
    """
    del iterations, nc  # arguments of the interface that people know; this rule needs neither
    return "MuSGD", 0.01, 0.9


def fill_automatic(settings: Settings, *, batches: int, nc: int) -> None:
    """Decide what the user left to us: optimizer, lr0, momentum, warmup_bias_lr, nbs and ema_tau.

    Args:
        batches: of an epoch.
        nc: classes of the data set.
    """
    if settings.optimizer != "auto":
        return
    total = batches * settings.epochs
    name, lr, momentum = automatic(iterations=total, nc=nc)
    settings.assign("optimizer", name, origin="auto")  # also where the user wrote `auto`
    if settings.origin("lr0") != "auto":  # else it was found (lr0=find)
        _fill(settings, lr0=lr)
    _fill(settings, momentum=momentum, warmup_bias_lr=0.0)
    if settings.accumulate is None and total * settings.batch / settings.nbs < FEW_STEPS:
        _fill(settings, nbs=settings.batch)  # every batch steps
    fit_average(settings, steps=steps_of(settings, batches=batches))


def steps_of(settings: Settings, *, batches: int) -> float:
    """Optimizer steps of a run with that many batches an epoch."""
    total = batches * settings.epochs
    if settings.accumulate is not None:
        return total / settings.accumulate
    return total * settings.batch / max(settings.nbs, settings.batch)


def fit_average(settings: Settings, *, steps: float) -> None:
    """Shorten `ema_tau` where the run is short, unless the user chose it."""
    if steps / STEPS_PER_TAU < settings.ema_tau:
        _fill(settings, ema_tau=max(round(steps / STEPS_PER_TAU), 1))


def _fill(settings: Settings, **values: Any) -> None:
    for name, value in values.items():
        if not settings.fill_auto(name, value):
            LOGGER.info(f"optimizer=auto would set {name}={value}; your {name}={getattr(settings, name)} stays")
