from __future__ import annotations

import math

import pytest

from sightline.errors import SettingValueError
from sightline.metrics.expression import Expression, names_of

KNOWN = [
    "metrics/precision(B)", "metrics/recall(B)", "metrics/mAP50(B)", "metrics/mAP50-95(B)", "metrics/f1(B)",
    "metrics/f1(B)/RBC", "metrics/f1(B)/white cell", "val/box_loss", "val/cls_loss",
]  # fmt: skip
VALUES = dict(zip(KNOWN, [0.5, 0.25, 0.75, 0.4, 0.3, 0.1, 0.2, 1.5, 2.5], strict=True))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("metrics/mAP50(B)", 0.75),
        ("mAP50", 0.75),
        ("mAP50-95", 0.4),  # the name, not 0.75 minus 95
        ("mAP50 - 95", 0.75 - 95),
        ("mAP50-9", 0.75 - 9),
        ("0.9*metrics/mAP50-95(B)+0.1*metrics/recall(B)", 0.385),
        ("-val/box_loss", -1.5),
        ("-(box_loss+cls_loss)/2", -2.0),
        ("min(precision, recall)", 0.25),
        ("max(precision,recall,mAP50)", 0.75),
        ("2*precision*recall/(precision+recall)", 1 / 3),
        ("recall**2 + 1e-3*f1", 0.0625 + 0.0003),
        ("f1/RBC", 0.1),  # of the class, not f1 divided by something
        ("f1/2", 0.15),
        ("f1/white cell + metrics/f1(B)/RBC", 0.3),
        ("  +recall ", 0.25),
    ],
)
def test_an_expression_is_arithmetic_over_metrics(text: str, value: float):
    assert Expression(text, KNOWN)(VALUES) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("metrics/mAP51(B)", "Did you mean metrics/mAP50"),
        ("0.5*recal + f1", "'recal' is no metric of this run. Did you mean recall"),
        ("MAP50", "Did you mean mAP50"),
        ("f1/WBC", "no metric"),
        ("0.5", "no metric in it"),
        ("recall +", "not arithmetic"),
        ("recall precision", "not arithmetic"),
        ("recall > 0.5", "not arithmetic"),
        ("recall if recall else f1", "no metric of this run"),
        ("recall.real", "not arithmetic"),
        ("recall[0]", "not arithmetic"),
        ("__import__('os').system('true') + recall", "no metric of this run"),
        ("eval(recall)", "no metric of this run"),
        ("max()+recall", "not arithmetic"),
        ("max(*recall)", "not arithmetic"),
        ("max(recall, key=recall)", "no metric of this run"),
        ("min + recall", "not arithmetic"),
        ("recall + 'a'", "no metric of this run"),
        ("recall + 1j", "not arithmetic"),
        ("(" * 300 + "recall)", "not arithmetic"),
        ("recall+" * 90, "characters"),
    ],
)
def test_anything_else_is_refused_with_the_nearest_names(text: str, says: str):
    with pytest.raises(SettingValueError) as error:
        Expression(text, KNOWN)
    assert says in str(error.value)
    assert str(error.value).startswith("fitness=")


def test_a_short_name_that_could_mean_two_is_refused():
    both = ["metrics/loss(B)", "val/loss"]
    with pytest.raises(SettingValueError, match=r"could be metrics/loss\(B\) or val/loss"):
        Expression("loss", both)
    assert Expression("val/loss", both).keys == ("val/loss",)
    assert names_of(both)["loss"] == tuple(both)


@pytest.mark.parametrize("text", ["recall/(precision-precision)", "recall/0", "(recall-1)**0.5", "10.0**(9999*recall)"])
def test_an_undefined_result_is_nan(text: str):
    assert math.isnan(Expression(text, KNOWN)(VALUES))


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
@pytest.mark.parametrize("text", ["recall", "min(1, recall)", "min(recall, 1)", "precision + recall"])
def test_an_unknown_metric_makes_an_unknown_result(text: str, value: float | None):
    if value == math.inf and text.startswith("min"):
        assert Expression(text, KNOWN)({**VALUES, "metrics/recall(B)": value}) == 1
    else:
        assert math.isnan(Expression(text, KNOWN)({**VALUES, "metrics/recall(B)": value}))
    if value is None:
        assert math.isnan(Expression(text, KNOWN)({"metrics/precision(B)": 0.5}))  # not there at all


def test_huge_powers_end_at_once():
    assert math.isnan(Expression("9**9**9**9 * recall", KNOWN)(VALUES))
