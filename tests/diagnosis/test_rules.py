"""Each rule on a made-up run: it speaks where its reason is there, at that epoch, and not just below its limit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sightline.config.limits import Limits
from sightline.config.settings import Settings
from sightline.diagnosis.history import Epoch, History, Setup, epoch_from, history_from, to_plain
from sightline.diagnosis.rules import FOLLOWS, RULES, judge, replay
from sightline.errors import SettingsError

COUNT = 24


def healthy(count: int = COUNT, **setup: Any) -> History:
    """A run as the zoo's healthy ones: losses fall, scores rise, steps of a thousandth."""
    plan = Setup(
        epochs=count, batches=8, warmup_epochs=1, optimizer="AdamW", lr0=1e-3, precision="fp32", parameters=100,
        trainable=100, train_images=32, val_images=24, labelled_images=30, objects=300, box_side=30.0,
        class_names=["a", "b", "c"], class_counts=[200, 60, 40], duplicates=0,
    )  # fmt: skip
    for name, value in setup.items():
        setattr(plan, name, value)
    epochs = [
        Epoch(
            i + 1, train_loss={"box": 3 * 0.97**i, "cls": 2 * 0.95**i, "dfl": 0.1}, map50=0.7 * (1 - 0.85**i),
            val_loss={"box": 3 * 0.98**i, "cls": 2 * 0.97**i, "dfl": 0.1}, map=0.4 * (1 - 0.85**i),
            lr=1e-3 * (1 - 0.99 * i / count), steps=8, grad_norm=30.0, grad_norm_max=60.0, not_finite=0, update=1.5e-3,
            update_head=1e-3, update_body=2e-3, head_gradient=5.0, body_gradient=10.0, ema_lag=0.2, images=32,
            objects=300, loader_share=0.1, detections=200, top_score=0.8, placed=150, misnamed=5, invented=50,
            missed=50, detected_of_class=[120, 50, 30], labelled_of_class=[150, 45, 30], ap50_of_class=[0.6, 0.5, 0.4],
        )
        for i in range(count)
    ]  # fmt: skip
    return History(plan, epochs)


def of_every(**values: Any) -> Callable[[History], None]:
    def change(history: History) -> None:
        for epoch in history.epochs:
            for name, value in values.items():
                setattr(epoch, name, value)

    return change


def from_epoch(first: int, **values: Any) -> Callable[[History], None]:
    def change(history: History) -> None:
        of_every(**values)(History(epochs=history.epochs[first - 1 :]))

    return change


def setup(**values: Any) -> Callable[[History], None]:
    def change(history: History) -> None:
        for name, value in values.items():
            setattr(history.setup, name, value)

    return change


def both(*changes: Callable[[History], None]) -> Callable[[History], None]:
    return lambda history: [change(history) for change in changes] and None


def rising_validation(history: History) -> None:
    for epoch in history.epochs[6:]:
        epoch.val_loss = {"box": 3 + 0.1 * (epoch.epoch - 6)}
        epoch.map = 0.2


NOTHING_LEARNT = of_every(map50=0.01, map=0.002, train_loss={"box": 3.0, "cls": 2.0})
POOR_BOXES = of_every(map50=0.5, map=0.14, detections=200, invented=120)

# Change, rule, the epoch at which it must speak.
SPEAKS = {
    "no labels": (setup(objects=0), "labels_missing", 0),
    "labels lost": (of_every(objects=0), "labels_missing", 1),
    "no positives": (of_every(train_loss={"box": 0.0, "cls": 1.0, "dfl": 0.0}), "no_positives", 1),
    "duplicates": (setup(duplicates=5, duplicate_examples=["val/a.png"]), "duplicate_images", 0),
    "collapse": (
        from_epoch(3, detected_of_class=[0, 0, 200], misnamed=120), "class_collapse", 4),
    "wrong names": (from_epoch(2, misnamed=60), "label_noise", 4),
    "poor boxes": (POOR_BOXES, "box_noise", 3),
    "frozen": (setup(trainable=0), "everything_frozen", 0),
    "no movement": (from_epoch(5, update=0.0), "everything_frozen", 5),
    "no movement from the start": (of_every(update=0.0), "everything_frozen", 2),  # the warm-up begins at a rate of 0
    "head without gradient": (of_every(head_gradient=0.0), "dead_head", 1),
    "head stands still": (from_epoch(3, update_head=0.0), "dead_head", 3),
    "head falls silent": (from_epoch(4, top_score=1e-4), "dead_head", 4),
    "flat": (both(NOTHING_LEARNT, of_every(steps=50)), "loss_flat", 4),  # 200 steps
    "too low": (both(NOTHING_LEARNT, of_every(update=1e-6)), "lr_too_low", 5),
    "wild": (both(NOTHING_LEARNT, of_every(update=0.5)), "lr_too_high", 2),
    "large steps": (both(NOTHING_LEARNT, of_every(update=0.05)), "lr_too_high", 5),
    "no steps finite": (from_epoch(2, not_finite=8), "not_finite", 2),
    "loss is NaN": (from_epoch(3, train_loss={"box": math.nan}), "not_finite", 3),
    "fp16": (both(setup(precision="fp16"), of_every(not_finite=2, scale=0.5)), "fp16_overflow", 2),
    "exploding": (of_every(grad_norm=1500.0), "exploding_gradient", 5),
    "spikes": (from_epoch(4, grad_norm_max=700.0), "gradient_spikes", 5),
    "one huge spike": (lambda h: setattr(h.epochs[5], "grad_norm_max", 4000.0), "gradient_spikes", 6),
    "average stays": (of_every(ema_lag=0.9), "ema_not_following", 5),
    "over-fitting": (rising_validation, "overfitting", 15),  # eight epochs after the best, the seventh
    "schedule": (from_epoch(6, lr=1e-6), "schedule_ended", 6),
    "loader": (of_every(loader_share=0.7), "loader_bound", 3),  # the first epoch fills caches
}  # fmt: skip

# As far as a run may go without a word.
SILENT = {
    "a healthy run": of_every(),
    "a slow start": lambda h: (NOTHING_LEARNT(h), h.epochs.__delitem__(slice(12, None))),  # 96 steps
    # SGD at 0.05 on bccd from scratch, three seeds: told so at epoch 10, and as good as AdamW at epoch 30.
    "large steps that lower the loss": lambda h: [
        setattr(e, "update", 0.026) or setattr(e, "map50", 0.001) or setattr(e, "map", 0.0002) for e in h.epochs[:10]
    ] and h.epochs.__delitem__(slice(10, None)),
    "a few not finite": from_epoch(3, steps=20, not_finite=2),
    "fp16 finds its scale": both(setup(precision="fp16"), lambda h: setattr(h.epochs[0], "not_finite", 3)),
    "large first gradients": lambda h: [setattr(e, "grad_norm", 3000.0) for e in h.epochs[:2]] and None,
    "gradient below": of_every(grad_norm=900.0, grad_norm_max=1500.0),
    "a validation loss that explodes, nothing learnt": both(rising_validation, of_every(map=0.0004, map50=0.06)),
    "scores of a fresh network that sink": lambda h: [
        setattr(e, "top_score", 0.003 if e.epoch < 4 else 0.0) for e in h.epochs[:9]
    ] and None,
    "the first step of a warm-up": lambda h: setattr(h.epochs[0], "update", 0.0),
    "one spike": lambda h: setattr(h.epochs[5], "grad_norm_max", 1000.0),
    "spike below": from_epoch(4, grad_norm_max=590.0),
    "average follows": of_every(ema_lag=0.7),
    "near its best from the start": of_every(
        map50=0.8, map=0.6, train_loss={"box": 1.0}, val_loss={"box": 1.0, "cls": 0.5}
    ),
    "frozen backbone": both(setup(trainable=50), of_every(update_body=math.nan, body_gradient=math.nan)),
    "background in a batch": lambda h: setattr(h.epochs[3], "objects", 1),
    "poor boxes that get better": lambda h: [setattr(e, "map", e.map * e.epoch / 24) for e in h.epochs] and None,
    "poor boxes of few pixels": both(setup(box_side=9.0), POOR_BOXES),
    "one duplicate of many": setup(duplicates=1, val_images=200),
    "a rare class alone": from_epoch(3, detected_of_class=[198, 1, 1], labelled_of_class=[190, 8, 8], misnamed=10),
    "waiting below": of_every(loader_share=0.55),
    "validation loss rises, score too": lambda h: [
        setattr(e, "val_loss", {"box": 3 + 0.1 * e.epoch}) for e in h.epochs[6:]
    ] and None,
    "no validation at all": of_every(
        map50=math.nan, map=math.nan, val_loss={}, detections=None, placed=None, misnamed=None, top_score=math.nan
    ),
    "a plain table": of_every(
        update=math.nan, update_head=math.nan, grad_norm=math.nan, head_gradient=math.nan, ema_lag=math.nan,
        steps=None, not_finite=None, objects=None, images=None, loader_share=math.nan,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SPEAKS)
def test_a_rule_speaks_when_its_reason_is_there(case: str):
    change, rule, epoch = SPEAKS[case]
    history = healthy()
    change(history)
    found = [(finding.rule, finding.epoch) for finding in replay(history)]
    assert found == [(rule, epoch)]


@pytest.mark.parametrize("case", SILENT)
def test_nothing_is_said_below_the_limits(case: str):
    history = healthy()
    SILENT[case](history)
    assert replay(history) == []


@pytest.mark.parametrize("case", SPEAKS)
def test_every_finding_has_numbers_and_a_remedy(case: str):
    history = healthy()
    SPEAKS[case][0](history)
    (finding,) = replay(history)
    assert any(letter.isdigit() for letter in finding.evidence) or "not a number" in finding.evidence
    assert finding.remedy.endswith(".")
    assert finding.rule.replace("_", " ") in finding.line()
    assert len(finding.line()) < 500


def test_a_short_run_says_nothing():
    assert replay(healthy(3)) == []
    assert judge(History()) == []


def test_no_history_makes_a_rule_stumble():
    """Whatever is missing: a rule that has not got what it needs is silent."""
    bare = History(Setup(), [Epoch(i + 1) for i in range(120)])
    for rule in RULES:
        assert rule(bare, Limits()) is None
        assert rule(History(), Limits()) is None


def test_causes_and_consequences_are_rules():
    history = healthy()
    known = set()
    for change, rule, _ in SPEAKS.values():
        change(history)
        known.add(rule)
    known |= {"val_plateau", "map_stagnation"}
    assert set(FOLLOWS) | set().union(*FOLLOWS.values()) <= known
    assert not any(cause in follows for cause, follows in FOLLOWS.items())


def test_a_history_survives_json():
    before = healthy(2)
    before.epochs[0].map50 = math.nan
    after = history_from(to_plain(before.setup), [to_plain(epoch) for epoch in before.epochs])
    assert after.setup == before.setup
    assert after.epochs[1] == before.epochs[1]
    assert math.isnan(after.epochs[0].map50)
    assert epoch_from({"epoch": 3, "of_a_later_version": 1}).epoch == 3


def test_limits_are_settings():
    settings = Settings(diagnosis_limits={"grad_norm": 5000, "plateau_epochs": 20})
    limits = Limits.named(settings.diagnosis_limits)
    assert (limits.grad_norm, limits.plateau_epochs, limits.plateau_std) == (5000, 20, 0.001)
    history = healthy()
    SPEAKS["exploding"][0](history)
    assert replay(history, limits) == []


@pytest.mark.parametrize("wrong", [{"grad_nrm": 1}, {"grad_norm": -1}, {"grad_norm": "high"}, 7])
def test_a_limit_that_is_none_is_an_error(wrong: Any):
    with pytest.raises(SettingsError, match="diagnosis_limits"):
        Settings(diagnosis_limits=wrong)


def test_the_guide_lists_every_rule_and_every_limit_as_it_is():
    page = (Path(__file__).resolve().parents[2] / "docs" / "diagnosis.md").read_text(encoding="utf-8")
    for name, value, meaning in Limits().rows():
        assert f"| `{name}` | {value:g} | {meaning} |" in page
    listed = set(re.findall(r"^\| `(\w+)` \| (?:error|warning|note)", page, re.MULTILINE))
    assert listed == {rule for _, rule, _ in SPEAKS.values()} | {"val_plateau", "map_stagnation"}
