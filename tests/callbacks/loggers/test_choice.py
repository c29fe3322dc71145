"""Which trackers a run has."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sightline.callbacks import loggers
from sightline.config.settings import Settings
from sightline.errors import MissingExtraError, SettingsError
from sightline.train.detect import DetectionTrainer


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    packages: set[str] = set()
    monkeypatch.setattr(loggers, "is_installed", packages.__contains__)
    return packages


def names(**settings: object) -> list[str]:
    return [type(tracker).__name__ for tracker in loggers.build(Settings(**settings))]


def test_tensorboard_comes_by_itself_where_it_is_installed(installed: set[str]):
    assert names() == []
    installed |= {"tensorboard", "mlflow", "wandb"}  # the others may send something away: nobody asked for that
    assert names() == ["TensorBoardTracker"]
    assert names(loggers=[]) == []


@pytest.mark.parametrize("given", [["mlflow", "TensorBoard"], "[mlflow, tensorboard]", "mlflow,tensorboard,mlflow"])
def test_the_list_says_which(given: object, installed: set[str]):
    installed |= {"tensorboard", "mlflow", "wandb"}
    assert names(loggers=given) == ["MLflowTracker", "TensorBoardTracker"]


@pytest.mark.parametrize(
    ("given", "words"),
    [("clearml", "a list of tensorboard, mlflow, wandb"), (["csv"], "results.csv and events.jsonl"), (5, "a list of")],
)
def test_others_are_refused(given: object, words: str):
    with pytest.raises(SettingsError, match=words):
        Settings(loggers=given)


def test_one_that_is_not_installed_is_an_error_before_the_run(
    installed: set[str], tiny_data: Path, tiny_model: str, tmp_path: Path
):
    installed.add("tensorboard")
    with pytest.raises(MissingExtraError) as raised:
        DetectionTrainer(
            overrides={
                "model": tiny_model, "data": str(tiny_data), "project": str(tmp_path / "runs"),
                "loggers": ["tensorboard", "mlflow", "wandb"],
            }
        )  # fmt: skip
    assert "mlflow, wandb are not installed" in str(raised.value)
    assert "pip install 'sightline[mlflow,wandb]'" in str(raised.value)
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_that_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "runs_of_mine").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not loggers.is_installed("runs_of_mine")  # wandb leaves a folder `wandb` where a script ran
    assert not loggers.is_installed("no_such_package_anywhere")
    assert loggers.is_installed("numpy")


def test_asking_does_not_import():
    before = {name for name in ("tensorboard", "mlflow", "wandb") if name in sys.modules}
    loggers.build(Settings())
    assert {name for name in ("tensorboard", "mlflow", "wandb") if name in sys.modules} == before
