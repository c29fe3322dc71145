"""A run in two steps that leaves nothing behind and says what was called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sightline import YOLO
from sightline.callbacks.base import Callback
from sightline.errors import TrainingError
from sightline.train.detect import DetectionTrainer
from sightline.train.dry_run import DryRun, FirstBatch, Row, overridden
from sightline.validate.detect import DetectionValidator
from train.test_trainer import TINY

FAST: dict[str, Any] = {
    "imgsz": 64,
    "batch": 2,
    "epochs": 30,
    "workers": 0,
    "amp": False,
    "verbose": False,
    "device": "cpu",
    "dry_run": True,
}


class Validator(DetectionValidator):
    def update_metrics(self, preds: Any, batch: dict[str, Any]) -> None:
        super().update_metrics(preds, batch)


class Trainer(DetectionTrainer):
    def get_validator(self) -> Any:
        self.loss_names = ("box_loss", "cls_loss", "dfl_loss")
        return Validator(self.test_loader, save_dir=self.save_dir, args=self.args.copy(), _callbacks=self.callbacks)

    def optimizer_step(self) -> None:
        super().optimizer_step()

    def compute_class_weights(self, counts: torch.Tensor) -> torch.Tensor:
        return super().compute_class_weights(counts)

    def final_eval(self) -> None:
        super().final_eval()


class Notes(Callback):
    def on_after_optimizer_step(self, trainer: Any) -> None: ...


def save_only(trainer: Any) -> None: ...


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def rehearse(data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[YOLO, DryRun]:
    monkeypatch.chdir(folder)
    model = YOLO(TINY)
    model.add_callback("on_params_update", save_only)
    model.add_callback("on_val_batch_end", save_only)
    model.add_callback("on_predict_start", save_only)
    weights = {name: value.clone() for name, value in model.model.state_dict().items()}
    report = model.train(trainer=Trainer, data=str(data), callbacks=[Notes()], **{**FAST, **settings})
    assert all(torch.equal(value, weights[name]) for name, value in model.model.state_dict().items())
    return model, report


def calls(report: DryRun) -> dict[tuple[str, str], tuple[int, ...]]:
    return {(row.kind, row.name.split(" ")[0]): row.calls for row in report.rows}


def test_everything_is_tried_and_nothing_stays(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for cache in tiny_data.parent.rglob("*.sightline.*"):
        cache.unlink()
    before = files(tiny_data.parent)
    _, report = rehearse(tiny_data, tmp_path, monkeypatch)
    assert files(tiny_data.parent) == before
    assert not files(tmp_path)
    assert calls(report) == {
        ("on_after_optimizer_step", "Notes.on_after_optimizer_step"): (2,),
        ("on_params_update", "save_only"): (2,),
        ("on_val_batch_end", "save_only"): (2,),  # one batch after the epoch, one of the final validation
        ("trainer", "compute_class_weights()"): (0,),
        ("trainer", "final_eval()"): (1,),
        ("trainer", "get_validator()"): (1,),
        ("trainer", "optimizer_step()"): (2,),
        ("validator", "update_metrics()"): (2,),
    }
    assert [row.name for row in report.never] == ["compute_class_weights()"]
    assert "nothing calls compute_class_weights()" in capsys.readouterr().err


def test_label_caches_that_were_there_stay(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    quick = {**FAST, "dry_run": False, "epochs": 1, "plots": False}
    YOLO(TINY).train(data=str(tiny_data), project=str(tmp_path), **quick)
    before = files(tiny_data.parent)
    assert any(".sightline.cache" in path.name for path in before)
    (tmp_path / "empty").mkdir()
    rehearse(tiny_data, tmp_path / "empty", monkeypatch)
    assert files(tiny_data.parent) == before


def test_a_method_that_is_called_with_other_settings_is_no_finding(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, report = rehearse(tiny_data, tmp_path, monkeypatch, cls_pw=0.5)
    assert report.never == []


def test_an_error_leaves_nothing_either(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Broken(DetectionTrainer):
        def save_model(self, path: Any = None) -> bool:
            raise TrainingError("no space")

    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingError, match="no space"):
        YOLO(TINY).train(trainer=Broken, data=str(tiny_data), **FAST)
    assert not files(tmp_path)


@pytest.mark.slow
def test_on_two_ranks(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, report = rehearse(tiny_data, tmp_path, monkeypatch, nproc=2)
    assert not files(tmp_path)
    found = calls(report)
    assert found["trainer", "optimizer_step()"] == (2, 2)
    assert found["on_params_update", "save_only"] == (2, 2)
    assert found["trainer", "compute_class_weights()"] == (0, 0)
    assert found["validator", "update_metrics()"] == (2, 2)


def test_what_counts_as_overridden():
    class Mine(Trainer):
        def my_own(self) -> None: ...

        def get_dataset(self) -> dict[str, Any]:
            return super().get_dataset()

    assert overridden(Mine) == ["compute_class_weights", "final_eval", "get_validator", "optimizer_step"]
    assert overridden(DetectionTrainer) == []


def test_the_first_batch_and_the_loader_behind_it():
    class Loader(list[int]):
        dataset = "data"

    short = FirstBatch(Loader([7, 8, 9]))
    assert list(short) == [7]
    assert len(short) == 1
    assert short.dataset == "data"
    assert list(FirstBatch(Loader())) == []


def test_the_report_as_text():
    report = DryRun([Row("on_train_end", "f (a.py:1)", (1, 0)), Row("trainer", "g()", (0, 0))], 3.2)
    assert "rank 0: 1, rank 1: 0" in str(report)
    assert str(report).splitlines()[-1] == "Never called with these settings: g() (trainer)"
