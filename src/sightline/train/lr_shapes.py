"""How the learning rate goes over a run, as a factor of where it starts: pure functions of the epoch.

`epoch` counts from 0 and may lie between two whole ones. `epochs` is the length of the run; a longer one (a resume with
more epochs) gives another curve only where the curve depends on the length.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sightline.config.moments import Moment, epoch_of

if TYPE_CHECKING:
    from sightline.config.settings import Settings

# One cycle as torch has it: up for three tenths of the run, from a twenty-fifth.
CYCLE_RISE = 0.3
CYCLE_START = 1 / 25
# After two thirds and eight ninths: the proportions of the 1× schedule of Detectron (60k and 80k of 90k).
STEP_DROPS: tuple[Moment, ...] = (2 / 3, 8 / 9)
RESTART_CYCLES = 3  # of warm_restarts, unless restart_epoch says where


def linear_factor(epoch: float, epochs: int, lrf: float) -> float:
    """1 at epoch 0, falling in a line; `lrf` would come at `epochs`, one after the last."""
    return max(1 - epoch / epochs, 0) * (1 - lrf) + lrf


def cosine_factor(epoch: float, epochs: float, lrf: float) -> float:
    """1 at epoch 0, falling along half a cosine to `lrf` at `epochs`. Source: arXiv:1608.03983, without restarts."""
    return max((1 - math.cos(epoch * math.pi / epochs)) / 2, 0) * (lrf - 1) + 1


def onecycle_factor(epoch: float, epochs: int, lrf: float) -> float:
    """1/25 at epoch 0, along a cosine up to 1 after three tenths of the run and down to `lrf` at `epochs`.

    Source: Smith & Topin, Super-convergence, arXiv:1708.07120; proportions of `torch.optim.lr_scheduler.OneCycleLR`.
    """
    top = CYCLE_RISE * epochs
    if epoch < top:
        return CYCLE_START + (1 - CYCLE_START) * (1 - math.cos(epoch * math.pi / top)) / 2
    return cosine_factor(epoch - top, epochs - top, lrf)


def step_factor(epoch: float, drops: list[int], count: int, lrf: float) -> float:
    """1, times lrf^(1/count) from each of the epochs in `drops` on; after `count` of them it is `lrf`."""
    return lrf ** (sum(epoch >= drop for drop in drops) / count)


@dataclass(frozen=True)
class LrShape:
    """The curve of a run, with its restarts. The fields are the settings of the same names.

    Restarts cut the run into cycles. The first goes from 1 to `lrf`; cycle i begins at restart_factor^i, and from there
    follows the scheduler's shape again, down to `lrf` at the next restart or the end; or, with `restart_decay`, shrinks
    by that factor an epoch.
    """

    scheduler: str = "linear"
    lrf: float = 0.01
    step_epochs: tuple[Moment, ...] | None = None
    restart_epoch: Moment | tuple[Moment, ...] | None = None
    restart_factor: float = 0.5
    restart_decay: float | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> LrShape:
        drops, restarts = settings.step_epochs, settings.restart_epoch
        return cls(
            scheduler=settings.scheduler or ("cosine" if settings.cos_lr else "linear"),
            lrf=settings.lrf,
            step_epochs=None if drops is None else tuple(drops if isinstance(drops, list) else [drops]),
            restart_epoch=tuple(restarts) if isinstance(restarts, list) else restarts,
            restart_factor=settings.restart_factor,
            restart_decay=settings.restart_decay,
        )

    def factor(self, epoch: float, epochs: int) -> float:
        """What the initial learning rates are multiplied with."""
        restarts = self.restarts(epochs)
        cycle = bisect.bisect_right(restarts, epoch)
        if cycle == 0:
            return self._cycle(epoch, 0, restarts[0] if restarts else epochs, self.lrf)
        begin, peak = restarts[cycle - 1], self.restart_factor**cycle
        if self.restart_decay is not None:
            return float(peak * self.restart_decay ** (epoch - begin))
        end = restarts[cycle] if cycle < len(restarts) else epochs
        # From the peak down to the same end; a peak below that end stays where it is.
        return float(peak * self._cycle(epoch, begin, end, min(self.lrf / peak, 1)))

    def restarts(self, epochs: int) -> list[int]:
        """Epochs that begin a new cycle in a run of that length, in order."""
        given = self.restart_epoch
        if self.scheduler == "warm_restarts" and not isinstance(given, tuple):
            period = max(epoch_of(1 / RESTART_CYCLES if given is None else given, epochs), 1)
            return list(range(period, epochs, period))
        moments = given if isinstance(given, tuple) else () if given is None else (given,)
        return sorted({place for moment in moments if 0 < (place := epoch_of(moment, epochs)) < epochs})

    def drops(self, begin: int, end: int) -> list[int]:
        """Epochs at which `step` drops in the cycle from `begin` to `end`; shares are those of the cycle."""
        moments = STEP_DROPS if self.step_epochs is None else self.step_epochs
        places = (begin + epoch_of(moment, end - begin) if moment < 1 else int(moment) for moment in moments)
        return sorted(place for place in places if begin < place < end)

    def describe(self, epochs: int) -> str:
        """For the log: `cosine to 0.01, restarts after 300 epochs (×0.5)`."""
        name = self.scheduler.replace("_", " ")
        text = name if self.scheduler == "constant" else f"{name} to {self.lrf:g} of the initial rate"
        restarts = self.restarts(epochs)
        if self.scheduler == "step" and not restarts:
            text += f", drops after {_listed(self.drops(0, epochs))} epochs"
        if restarts:
            peaks = [f"{self.restart_factor**number:.3g}" for number in range(1, len(restarts) + 1)]
            text += f", restarts after {_listed(restarts)} epochs at ×{_listed(peaks)}"
            text += "" if self.restart_decay is None else f", then ×{self.restart_decay:g} an epoch"
        return text

    def _cycle(self, epoch: float, begin: int, end: int, lrf: float) -> float:
        """The scheduler's own shape from `begin` to `end`."""
        at, length = epoch - begin, end - begin
        if self.scheduler == "constant":
            return 1.0
        if self.scheduler == "step":
            count = len(STEP_DROPS if self.step_epochs is None else self.step_epochs)
            return step_factor(epoch, self.drops(begin, end), count, lrf)
        if self.scheduler == "onecycle":
            return onecycle_factor(at, length, lrf)
        return linear_factor(at, length, lrf) if self.scheduler == "linear" else cosine_factor(at, length, lrf)


def _listed(values: list[int] | list[str]) -> str:
    """`100, 200`, with the middle of a long list left out."""
    shown = [str(value) for value in values]
    return ", ".join(shown if len(shown) <= 4 else [*shown[:2], "…", shown[-1]])
