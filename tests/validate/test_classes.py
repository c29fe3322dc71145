"""Lining up the classes of a model with those of a data set."""

from __future__ import annotations

import logging

import pytest

from sightline.errors import ModelError
from sightline.validate.classes import match_classes

BCCD = {0: "RBC", 1: "WBC", 2: "Platelets"}


def test_same_classes_need_no_translation(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="sightline"):
        assert match_classes(BCCD, BCCD).is_identity
        assert match_classes({0: "0", 1: "class1", 2: "2"}, BCCD).is_identity  # not named yet
        assert match_classes({0: "rbc", 1: "wbc", 2: "platelets"}, BCCD).is_identity
    assert not caplog.records


def test_other_names_are_warned_of(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="sightline"):
        assert match_classes({0: "WBC", 1: "RBC", 2: "Platelets"}, BCCD).is_identity
    assert "2 of 3 class names" in caplog.text
    assert "'WBC' here is 'RBC' there" in caplog.text


def test_a_model_that_knows_less(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="sightline"):
        classes = match_classes({0: "Platelets", 1: "RBC"}, BCCD, data="bccd.yaml")
    assert classes.to_data.tolist() == [2, 0]
    assert classes.known.tolist() == [True, False, True]
    assert classes.model_classes([2]) == [0]
    assert not classes.is_identity
    assert "does not know 1 class (WBC) of bccd.yaml" in caplog.text


def test_a_model_that_knows_more(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="sightline"):
        classes = match_classes({0: "cat", **{n + 1: name for n, name in BCCD.items()}}, BCCD, data="bccd.yaml")
    assert classes.to_data.tolist() == [-1, 0, 1, 2]
    assert classes.known.all()
    assert not classes.is_identity
    assert "bccd.yaml does not have 1 class (cat)" in caplog.text


def test_classes_that_have_nothing_to_do_with_each_other():
    with pytest.raises(ModelError) as caught:
        match_classes({0: "cat", 1: "dog"}, BCCD, data="bccd.yaml")
    message = str(caught.value)
    assert "2 classes (cat, dog)" in message
    assert "bccd.yaml names 3 classes (RBC, WBC, Platelets)" in message
