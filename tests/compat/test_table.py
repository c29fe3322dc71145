"""Every row leads where it says, and what is missing is explained."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator

import pytest

import sightline
from sightline import compat, facade
from sightline.compat import table
from sightline.errors import NoEquivalentError, SightlineError
from sightline.models.build import NETWORKS
from sightline.models.layers import LAYERS
from sightline.tasks import TASKS


@pytest.fixture(autouse=True)
def _enabled() -> Iterator[None]:
    compat.enable()
    yield
    compat.disable()


@pytest.mark.parametrize("row", list(table.rows()), ids=lambda row: row.old)
def test_both_imports_give_the_same_object(row: table.Row):
    module, _, name = row.new.partition(":")
    ours = getattr(importlib.import_module(module), name)
    scope: dict = {}
    exec(f"from {row.module} import {row.name}", scope)
    assert scope[row.name] is ours
    assert getattr(importlib.import_module(row.module), row.name) is ours


def test_every_module_has_its_parents():
    for module in table.TABLE:
        assert module == table.OLD or module.rpartition(".")[0] in table.TABLE


def test_flat_names_are_the_objects_of_the_table():
    names = {row.name: row.new for row in table.rows()}
    shared = [name for name in sightline.__all__ if name in names and not name.startswith("__")]
    assert {"YOLO", "DetectionTrainer", "v8DetectionLoss", "unwrap_model", "LOGGER", "RANK", "colorstr"} <= set(shared)
    for name in shared:
        assert getattr(sightline, name) is table.load(names[name])


def test_attributes_reach_modules_that_nobody_imported():
    ultralytics = importlib.import_module("ultralytics")
    assert ultralytics.utils.LOGGER is logging.getLogger("sightline")
    assert ultralytics.models.yolo.detect.DetectionTrainer is sightline.DetectionTrainer
    assert {"YOLO", "utils", "models"} <= set(dir(ultralytics))


def test_star_imports():
    scope: dict = {}
    exec("from ultralytics.utils.ops import *", scope)
    assert scope["xywh2xyxy"] is importlib.import_module("sightline.ops.boxes").xywh_to_xyxy


@pytest.mark.parametrize("old", [*table.LATER, *table.INSTEAD])
def test_what_is_missing_is_an_import_error_with_advice(old: str):
    module, _, name = old.rpartition(".")
    for statement in (f"from {module} import {name}", f"import {old}"):
        with pytest.raises(ImportError) as caught:
            exec(statement)
        assert "docs/migrating.md" in str(caught.value)
        advice = table.LATER.get(old) or table.INSTEAD[old]
        assert advice in str(caught.value) or table.why_missing(module) in str(caught.value)
        assert isinstance(caught.value, NoEquivalentError)  # so that the command prints it alone
        assert isinstance(caught.value, SightlineError)


def test_nothing_is_both_there_and_missing():
    there = {row.old for row in table.rows()} | set(table.TABLE)
    assert not there & {*table.LATER, *table.INSTEAD}
    assert not set(table.LATER) & set(table.INSTEAD)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("from ultralytics.models.yolo.segment import SegmentationTrainer", "not in sightline yet: it comes with segm"),
        ("from ultralytics import solutions", "docs/predict.md"),
        ("import ultralytics.hub.utils", "ultralytics.hub is not in sightline"),
        ("from ultralytics.utils.torch_utils import unwrap_modle", "Near names: unwrap_model"),
        ("import ultralytics.util", "Near names: utils"),
        ("from ultralytics.whatever import x", "docs/migrating.md lists what is"),
    ],
)
def test_messages(statement: str, words: str):
    with pytest.raises(ImportError) as caught:
        exec(statement)
    assert words in str(caught.value)


def test_an_attribute_that_is_missing_is_an_attribute_error_with_advice():
    loss = importlib.import_module("ultralytics.utils.loss")
    assert not hasattr(loss, "BboxLoss")
    with pytest.raises(AttributeError, match=r"losses\.terms\.boxes\.BoxLoss"):
        loss.BboxLoss  # noqa: B018


def test_remarks_belong_to_rows():
    assert set(table.REMARKS) <= {row.new for row in table.rows()}


def test_what_is_built_is_in_the_table():
    """A new task, layer or network class is reachable under its old name, too."""
    for task in TASKS:
        assert f"ultralytics.models.{'rtdetr' if task == 'rtdetr' else f'yolo.{task}'}" in table.TABLE
    assert {name for name in LAYERS if not name.startswith("nn.")} <= set(table.TABLE["ultralytics.nn.modules"])
    for name in ("YOLO", "RTDETR"):
        assert hasattr(facade, name) == (name in table.TABLE["ultralytics"])
    networks = {network.__name__ for network in NETWORKS.values()}
    assert networks <= set(table.TABLE["ultralytics.nn.tasks"])
