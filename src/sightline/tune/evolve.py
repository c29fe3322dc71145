"""`method=evolve`: every trial is a changed copy of one of the best so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

PARENTS = 5  # the best so far, of which one is changed
STRENGTH = 0.2  # standard deviation of a change, as a share of the value
FLOOR = 0.1  # of the range: what is near 0 moves by a share of that, or it would stay there for ever
CHANGED = 0.8  # chance of each setting to change
OTHER_CHOICE = 0.2  # chance of a choice to become another one


class EvolveSampler(optuna.samplers.BaseSampler):
    """Mutation without crossover: a parent among the best, better ones sooner, each of its numbers times 1 + noise.

    Values that leave the range stop at its end. Ended trials count with the best fitness that they had, so a search
    that is resumed goes on from the table of trials and nothing else.

    Args:
        seed: of everything that is random here.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.first = optuna.samplers.RandomSampler(seed=seed)  # until there is a parent

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        parents = self._parents(study)
        return dict(parents[0].distributions) if parents else {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        parents = self._parents(study)
        if not parents or not search_space:
            return {}
        parent = parents[self._draw(parents)]
        names = list(search_space)
        while True:  # a copy without any change would be a trial for nothing
            child = {name: self._changed(parent.params[name], search_space[name]) for name in names}
            if child != {name: parent.params[name] for name in names}:
                return child

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.first.sample_independent(study, trial, param_name, param_distribution)

    def _parents(self, study: optuna.Study) -> list[FrozenTrial]:
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        done = [trial for trial in done if trial.value is not None and trial.params]
        return sorted(done, key=lambda trial: (-(trial.value or 0.0), trial.number))[:PARENTS]

    def _draw(self, parents: Sequence[FrozenTrial]) -> int:
        """By rank: of five, the best is taken five times as often as the last."""
        weights = np.arange(len(parents), 0, -1, dtype=float)
        return int(self.rng.choice(len(parents), p=weights / weights.sum()))

    def _changed(self, value: Any, distribution: BaseDistribution) -> Any:
        if self.rng.random() >= CHANGED:
            return value
        if isinstance(distribution, CategoricalDistribution):
            others = [each for each in distribution.choices if each != value]
            return others[self.rng.integers(len(others))] if self.rng.random() < OTHER_CHOICE / CHANGED else value
        low, high = float(distribution.low), float(distribution.high)  # type: ignore[attr-defined]
        if distribution.log:  # type: ignore[attr-defined]
            changed = value * float(np.exp(self.rng.normal(0.0, STRENGTH * np.log(high / low) / 2)))
        else:
            changed = value + float(self.rng.normal(0.0, STRENGTH)) * max(abs(value), FLOOR * (high - low))
        step = distribution.step  # type: ignore[attr-defined]
        if step:
            changed = low + round((changed - low) / step) * step
        changed = min(max(changed, low), high)
        whole = isinstance(distribution, optuna.distributions.IntDistribution)
        return round(changed) if whole else changed


__all__ = ["EvolveSampler"]
