"""What is said of settings before a run: the combinations that the issue names, and silence about sane ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sightline.diagnosis.plan import Plan, review

SANE = Plan(
    optimizer="SGD", lr0=0.01, batch=16, accumulate=4, processes=1, epochs=100, warmup_epochs=3, patience=50,
    val_interval=1, weight_decay=5e-4, batch_norm=True, synced=False, frozen=0.0, from_weights=True, batches=100,
)  # fmt: skip


def said(**changes: object) -> dict[str, str]:
    """Rule → severity."""
    return {finding.rule: finding.severity for finding in review(replace(SANE, **changes))}


def test_nothing_is_said_of_a_sane_plan():
    assert said() == {}
    assert said(optimizer="AdamW", lr0=5e-4) == {}
    assert said(lr0=0.02) == said(lr0=0.008) == {}  # the ends belong to it


@pytest.mark.parametrize(
    ("changes", "rule", "severity"),
    [
        ({"lr0": 0.1}, "lr0", "warning"),
        ({"lr0": 0.03}, "lr0", "note"),
        ({"lr0": 0.002, "from_weights": False}, "lr0", "note"),
        ({"lr0": 0.007}, "lr0", "note"),  # from weights
        ({"lr0": 0.0}, "lr0", "error"),
        ({"lr0": 0.02, "lr_factor": 2}, "lr0", "note"),  # lr_scale counts
        ({"optimizer": "AdamW", "lr0": 2e-4}, "lr0", "note"),
        ({"optimizer": "RMSProp", "lr0": 0.01}, "lr0", "warning"),
        ({"optimizer": "AdamW", "lr0": 0.01}, "lr0", "warning"),
        ({"optimizer": "adamw", "lr0": 0.002}, "lr0", "note"),
        ({"batch": 2, "accumulate": 32}, "batch_norm", "warning"),
        ({"batch": 12, "processes": 4, "accumulate": 4}, "batch_norm", "warning"),
        ({"batch": 2, "processes": 2, "synced": True, "accumulate": 32}, "batch_norm", "warning"),
        ({"batch": 4, "accumulate": 16}, "accumulation", "note"),
        ({"sync_asked": True}, "sync_bn", "warning"),  # on one process: accumulation was taken for it
        ({"sync_asked": True, "batch": 64, "accumulate": 1}, "sync_bn", "note"),
        ({"batch": 16, "processes": 4}, "sync_bn", "note"),
        ({"accumulate": 1}, "effective_batch", "note"),
        ({"accumulate": 16}, "effective_batch", "note"),
        ({"warmup_epochs": 60}, "warm_up", "warning"),
        ({"warmup_epochs": 0, "from_weights": False}, "warm_up", "note"),
        ({"frozen": 1.0}, "frozen_layers", "error"),
        ({"frozen": 0.4, "from_weights": False}, "frozen_layers", "warning"),
        ({"frozen": 0.95}, "frozen_layers", "note"),
        ({"patience": 3}, "patience", "warning"),
        ({"patience": 15, "val_interval": 10}, "patience", "warning"),
        ({"batches": 1, "accumulate": 2}, "few_steps", "note"),
    ],
)
def test_each_risky_combination_is_named(changes: dict[str, object], rule: str, severity: str):
    assert said(**changes).get(rule) == severity


@pytest.mark.parametrize(
    "changes",
    [{"batch": 2, "batch_norm": False}, {"batch": 8, "processes": 4, "synced": True}],  # GroupNorm; all ranks together
)
def test_small_batches_do_not_matter_where_nothing_is_normalised_over_few_images(changes: dict[str, object]):
    assert not {"batch_norm", "accumulation", "sync_bn"} & said(**changes).keys()


def test_a_scaled_rate_is_judged_by_what_it_comes_to():
    assert said(lr0=0.05, lr_factor=0.25) == {}
    (finding,) = review(replace(SANE, lr0=0.05, lr_factor=4))
    assert "lr0=0.05 × 4 (lr_scale) = 0.2" in finding.evidence


def test_onecycle_needs_no_warm_up():
    assert "warm_up" not in said(warmup_epochs=0, from_weights=False, comes_up=True)


def test_patience_of_zero_is_no_patience():
    assert said(patience=0) == {}


def test_a_patience_longer_than_the_run_is_named_where_somebody_counts_on_it():
    assert said(patience=100) == {}
    assert said(patience=100, patience_chosen=True) == {"patience": "note"}
