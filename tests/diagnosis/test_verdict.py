"""The verdict: by resampling, against scipy's own test, and by hand."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sightline.diagnosis.verdict import BETTER, SAME, UNKNOWN, WORSE, judge, spread

STD = 0.01  # of mAP50-95 over seeds, on a set as small as bccd
TRIALS = 1000
# Invented, clumped and with a tail to one side, as scores of few seeds often are.
POOL = np.array([0.561, 0.563, 0.563, 0.566, 0.571, 0.574, 0.590])
# Measured: ten runs each on bccd with SGD, lr0=0.01 and a thirtieth of it (benchmarks/verdicts.py, RESULTS.md).
BASE = np.array([0.0672, 0.1511, 0.1531, 0.1608, 0.1743, 0.2064, 0.2110, 0.2157, 0.2231, 0.2286])
THIRTIETH = np.array([0.0000, 0.0001, 0.0001, 0.0002, 0.0002, 0.0002, 0.0004, 0.0004, 0.0005, 0.0005])


def outcomes(a: np.ndarray, b: np.ndarray, **options: object) -> dict[str, float]:
    """Share of each outcome over the trials: (trials, runs) each."""
    found = [judge(left, right, **options).outcome for left, right in zip(a, b, strict=True)]  # type: ignore[arg-type]
    return {kind: found.count(kind) / len(found) for kind in (SAME, BETTER, WORSE, UNKNOWN)}


@pytest.mark.parametrize("runs", [2, 3, 5, 10])
def test_equal_recipes_are_called_equal(runs: int):
    rng = np.random.default_rng(runs)
    draw = rng.normal(0.57, STD, (2, TRIALS, runs))
    assert outcomes(*draw)[SAME] >= 0.95


@pytest.mark.parametrize("pool", [POOL, 0.57 + STD * np.random.default_rng(5).standard_t(3, 50)], ids=["clumped", "t3"])
def test_equal_recipes_resampled_from_one_pool_are_called_equal(pool: np.ndarray):
    draw = np.random.default_rng(0).choice(pool, (2, TRIALS, 5))
    assert outcomes(*draw)[SAME] >= 0.95


@pytest.mark.parametrize("runs", [BASE, THIRTIETH], ids=["lr0", "a thirtieth"])
def test_real_runs_of_one_recipe_are_called_equal(runs: np.ndarray):
    """Every way to split ten runs into five and five."""
    left = np.array([rows for rows in itertools.combinations(range(10), 5) if 0 in rows])
    right = np.array([sorted(set(range(10)) - set(rows)) for rows in left])
    assert outcomes(runs[left], runs[right])[SAME] >= 0.95


def test_a_thirtieth_of_the_learning_rate_is_called_worse():
    rng = np.random.default_rng(7)
    good, bad = (np.array([rng.choice(runs, 5, replace=False) for _ in range(TRIALS)]) for runs in (BASE, THIRTIETH))
    assert outcomes(good, bad)[WORSE] >= 0.95


def test_equal_means_with_unequal_spread_are_called_equal():
    rng = np.random.default_rng(1)
    assert outcomes(rng.normal(0.5, STD, (TRIALS, 5)), rng.normal(0.5, 3 * STD, (TRIALS, 5)))[SAME] >= 0.95


@pytest.mark.parametrize("drop", [4.0, 10.0])  # in standard deviations
def test_a_worse_recipe_is_called_worse(drop: float):
    rng = np.random.default_rng(2)
    good, bad = rng.choice(POOL, (TRIALS, 5)), rng.choice(POOL, (TRIALS, 5)) - drop * STD
    shares = outcomes(good, bad)
    assert shares[WORSE] >= 0.95
    assert shares[BETTER] == 0
    assert outcomes(bad, good)[BETTER] == shares[WORSE]
    assert outcomes(good, bad, higher_is_better=False)[BETTER] == shares[WORSE]


def test_the_numbers_are_those_of_scipy():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.5, 0.01, 5), rng.normal(0.52, 0.03, 4)
    verdict = judge(a, b)
    other = stats.ttest_ind(b, a, equal_var=False)
    assert verdict.p == pytest.approx(other.pvalue, rel=1e-9)
    low, high = other.confidence_interval(1 - verdict.alpha)
    assert verdict.difference == pytest.approx((low + high) / 2)
    assert verdict.margin == pytest.approx((high - low) / 2)
    assert (verdict.p < verdict.alpha) == (abs(verdict.difference) > verdict.margin)


def test_one_run_against_many_takes_the_spread_of_the_many():
    many, one = [0.50, 0.51, 0.52, 0.49], [0.60]
    # a prediction interval: t = (0.60 - mean) / (s * sqrt(1 + 1/4)), 3 degrees of freedom
    t = (0.60 - 0.505) / (np.std(many, ddof=1) * math.sqrt(1.25))
    assert judge(many, one).p == pytest.approx(2 * stats.t.sf(t, 3))
    assert judge(many, one).outcome == BETTER
    assert judge(one, many).outcome == WORSE
    rng = np.random.default_rng(4)
    assert outcomes(rng.normal(0.5, STD, (TRIALS, 1)), rng.normal(0.5, STD, (TRIALS, 5)))[SAME] >= 0.95


def test_a_difference_called_visible_is_mostly_seen():
    rng = np.random.default_rng(6)
    visible = np.median([judge(*rng.normal(0.5, STD, (2, 5))).visible for _ in range(300)])
    a, b = rng.normal(0.5, STD, (TRIALS, 5)), rng.normal(0.5 + visible, STD, (TRIALS, 5))
    assert 0.7 < outcomes(a, b)[BETTER] < 0.95


def test_the_table_in_the_guide_is_what_resampling_gives():
    page = (Path(__file__).resolve().parents[2] / "docs" / "comparing.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip(" %") for cell in line.strip("|").split("|")] for line in page.splitlines() if line[2:3].isdigit()
    ]
    assert [row[0] for row in rows] == ["2", "3", "5", "10"]
    rng = np.random.default_rng(7)
    for runs, equal, *seen in rows:
        size = (TRIALS, int(runs))
        a = rng.normal(0.5, STD, size)
        assert 100 * outcomes(a, rng.normal(0.5, STD, size))[SAME] == pytest.approx(float(equal), abs=1.5)
        for shift, share in zip((2, 3, 4, 5), seen, strict=True):
            found = 100 * outcomes(a, rng.normal(0.5 + shift * STD, STD, size))[BETTER]
            assert found == pytest.approx(float(share), abs=5)  # three standard errors of 1000 trials


def test_what_cannot_be_told_is_not_told():
    verdict = judge([0.5], [0.9])
    assert verdict.outcome == UNKNOWN
    assert verdict.line("a", "b") == "one run a side: cannot tell (b - a: +0.400)"
    assert judge([], [0.5, 0.6]).outcome == UNKNOWN
    assert judge([0.5, 0.5], [0.6, 0.6]).outcome == UNKNOWN  # one seed twice is no repetition
    nothing = judge([0.0, 0.0], [0.0, 0.0])  # "no difference" would be read as "the recipes are as good"
    assert (
        nothing.line("a", "b") == "0 in every run, so none has come far enough to compare: cannot tell (b - a: +0.000)"
    )
    assert judge([0.5, 0.5], [0.5, 0.5]).outcome == SAME
    with pytest.raises(ValueError, match="finite"):
        judge([0.5, math.nan], [0.5, 0.6])
    assert math.isnan(spread([0.5]))
    assert spread([1.0, 3.0]) == pytest.approx(math.sqrt(2))


def test_the_words():
    a = [0.50, 0.51, 0.49, 0.50, 0.505]
    better = judge(a, [each + 0.1 for each in a]).line("old", "new")
    assert better.startswith("new is better: +0.100 ± 0.")
    assert "5 and 5 runs" in better
    assert judge(a, [each - 0.1 for each in a]).line("old", "new").startswith("new is worse: -0.100 ± 0.")
    same = judge(a, a[::-1]).line("old", "new")
    assert same.startswith("difference within noise: new - old = +0.000 ± 0.")
    assert "would mostly stay unseen" in same
