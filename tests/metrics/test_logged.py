from __future__ import annotations

import math

import numpy as np
import pytest

from sightline.errors import SettingValueError
from sightline.metrics.detect import DetMetrics
from sightline.metrics.logged import BY_CLASS, OVERALL, chosen_keys, loggable_keys
from sightline.metrics.pose import PoseMetrics

NAMES = {0: "RBC", 1: "WBC", 2: "Platelets"}


def filled() -> DetMetrics:
    """Two images; RBC: two of three found, one invention; WBC: its only one found; Platelets: none labelled."""
    metrics = DetMetrics(NAMES)
    right = np.ones((1, 10), dtype=bool)
    metrics.update(
        tp=np.concatenate([right, right, ~right]), conf=np.array([0.9, 0.8, 0.7]), pred_cls=np.array([0, 1, 0]),
        target_cls=np.array([0, 1]), path="a.jpg",
    )  # fmt: skip
    metrics.update(tp=right, conf=np.array([0.6]), pred_cls=np.array([0]), target_cls=np.array([0, 0]), path="b.jpg")
    return metrics


def test_what_is_asked_for_comes_under_its_full_name():
    asked = ["f1", "metrics/f1(B)/WBC", "AP50/*", "f1", "AP75/RBC", "mAP75"]
    assert chosen_keys(asked, NAMES) == [
        "metrics/f1(B)", "metrics/f1(B)/WBC", "metrics/AP50(B)/RBC", "metrics/AP50(B)/WBC",
        "metrics/AP50(B)/Platelets", "metrics/AP75(B)/RBC", "metrics/mAP75(B)",
    ]  # fmt: skip
    assert chosen_keys([], NAMES) == []
    everything = [*OVERALL, *(f"{what}/*" for what in BY_CLASS)]
    assert chosen_keys(everything, NAMES) == loggable_keys(NAMES)


@pytest.mark.parametrize(
    ("name", "near"), [("F1", "f1"), ("f1/Rbc", "f1/RBC"), ("mAP57", "mAP50"), ("mAP50/*", "AP50/*")]
)
def test_an_unknown_name_is_an_error_with_the_nearest(name: str, near: str):
    with pytest.raises(SettingValueError, match="log_metrics") as error:
        chosen_keys([name], NAMES)
    assert f"'{name}' is not" in str(error.value)
    assert near in str(error.value).partition("Did you mean ")[2].partition("?")[0].split(" or ")


def test_the_values_are_those_of_the_metrics_object():
    metrics = filled()
    metrics.log = tuple(chosen_keys([*OVERALL, *(f"{what}/*" for what in BY_CLASS)], NAMES))
    results = metrics.compute()
    box = metrics.box
    assert results["metrics/f1(B)"] == pytest.approx((box.f1[0] + box.f1[1]) / 2)
    assert results["metrics/f1(B)/RBC"] == box.f1[0]
    assert results["metrics/recall(B)/WBC"] == pytest.approx(1.0, abs=1e-6)
    assert results["metrics/AP(B)/RBC"] == pytest.approx(box.all_ap[0].mean())
    assert results["metrics/AP75(B)/WBC"] == box.all_ap[1, 5]
    assert results["metrics/mAP50(B)"] == box.map50
    for what in BY_CLASS:  # nobody labelled any
        assert math.isnan(results[f"metrics/{what}(B)/Platelets"])
    # Counted by hand: at the best confidence, below 0.6, four predictions, three right, four objects.
    assert box.best_conf < 0.6
    assert [results[f"metrics/{what}(B)"] for what in ("tp", "fp", "fn")] == [3, 1, 1]
    assert results["metrics/image_precision(B)"] == pytest.approx((2 / 3 + 1) / 2)
    assert results["metrics/image_recall(B)"] == pytest.approx((1 + 1 / 2) / 2)
    assert list(results)[:5] == [*metrics.keys, "fitness"]  # the columns people know come first


def test_numbers_of_keypoints_have_their_letter():
    """RBC: two boxes, one of them with its keypoints at the right place. WBC: the same of its only one."""
    metrics = PoseMetrics(NAMES)
    right = np.ones((1, 10), dtype=bool)
    metrics.update(
        tp=np.concatenate([right] * 3), tp_pose=np.concatenate([right, ~right, right]), conf=np.array([0.9, 0.8, 0.7]),
        pred_cls=np.array([0, 0, 1]), target_cls=np.array([0, 0, 1]), path="a.jpg",
    )  # fmt: skip
    asked = ["tp", "tp(P)", "f1(P)/RBC", "metrics/recall(P)/*", "recall/RBC", "mAP75(P)", "AP50(P)/*"]
    metrics.log = tuple(chosen_keys(asked, NAMES, metrics.letters))
    assert metrics.log == (
        "metrics/tp(B)", "metrics/tp(P)", "metrics/f1(P)/RBC", "metrics/recall(P)/RBC", "metrics/recall(P)/WBC",
        "metrics/recall(P)/Platelets", "metrics/recall(B)/RBC", "metrics/mAP75(P)", "metrics/AP50(P)/RBC",
        "metrics/AP50(P)/WBC", "metrics/AP50(P)/Platelets",
    )  # fmt: skip
    results = metrics.compute()
    assert (results["metrics/tp(B)"], results["metrics/tp(P)"]) == (3, 2)
    assert results["metrics/recall(B)/RBC"] == pytest.approx(1, abs=1e-6)
    assert results["metrics/recall(P)/RBC"] == pytest.approx(1 / 2, abs=1e-6)
    assert results["metrics/recall(P)/WBC"] == pytest.approx(1, abs=1e-6)
    assert math.isnan(results["metrics/recall(P)/Platelets"])
    assert results["metrics/AP50(P)/RBC"] == metrics.pose.ap50[0] < results["metrics/AP50(P)/WBC"]
    assert results["metrics/mAP75(P)"] == metrics.pose.map75
    assert len(loggable_keys(NAMES, metrics.letters)) == 2 * len(loggable_keys(NAMES))


def test_what_is_allowed_depends_on_what_is_measured():
    with pytest.raises(SettingValueError, match=r"These are of boxes; those of keypoints are 'f1\(P\)', 'f1\(P\)/\*'"):
        chosen_keys(["f1(K)"], NAMES, ["B", "P"])
    with pytest.raises(SettingValueError, match=r"'f1\(P\)' is not.*Did you mean f1\b.*All are of boxes"):
        chosen_keys(["f1(P)"], NAMES)


def test_nothing_measured_gives_zeros_and_nothing_more_is_returned_unasked():
    metrics = DetMetrics(NAMES)
    assert list(metrics.compute()) == [*metrics.keys, "fitness"]
    metrics.log = tuple(loggable_keys(NAMES))
    results = metrics.compute()
    assert results["metrics/f1(B)"] == results["metrics/image_f1(B)"] == results["metrics/tp(B)"] == 0
