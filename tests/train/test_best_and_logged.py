"""The settings fitness, log_metrics and repeat_factor, in force in real runs."""

from __future__ import annotations

import csv
import logging
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.train.test_trainer import Interrupted, make, same, weights

from sightline import YOLO
from sightline.artifacts.checkpoint import load_checkpoint
from sightline.errors import SettingValueError
from sightline.train.detect import DetectionTrainer


def rows(trainer: DetectionTrainer) -> list[dict[str, str]]:
    with trainer.csv.open() as file:
        return list(csv.DictReader(file))


class Scripted(DetectionTrainer):
    """The numbers of a validation come from a list, so that what is best can be told beforehand."""

    recalls = (0.1, 0.4, 0.2, 0.3)
    maps = (0.5, 0.2, 0.6, 0.1)

    def get_validator(self) -> Any:
        validator = super().get_validator()

        def script(_: Any) -> None:
            if validator.training:
                compute = validator.get_stats

                def get_stats() -> dict[str, float]:
                    found = compute()
                    found["metrics/recall(B)"] = self.recalls[self.epoch]
                    found["metrics/mAP50(B)"] = self.maps[self.epoch]
                    return found

                validator.get_stats = get_stats

        validator.callbacks = {**validator.callbacks, "on_val_start": [script]}
        return validator


def test_the_setting_decides_which_epoch_is_best_and_when_to_stop(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, Scripted, epochs=4, fitness="metrics/recall(B)", patience=2)
    trainer.train()
    assert load_checkpoint(trainer.best)["epoch"] == 1
    assert trainer.best_fitness == trainer.stopper.best_fitness == 0.4
    assert trainer.stopper.best_epoch == 2
    assert trainer.epoch == 3  # two epochs without a higher recall, though mAP50 rose in one of them
    assert [float(row["fitness/recall"]) for row in rows(trainer)] == [0.1, 0.4, 0.2, 0.3]
    assert trainer.history["fitness/recall"] == [0.1, 0.4, 0.2, 0.3]
    assert not list(trainer.wdir.glob("best_*.pt"))
    assert trainer.in_force["fitness"] == "metrics/recall(B) decides best.pt and early stopping"
    assert yaml.safe_load((trainer.save_dir / "args.yaml").read_text())["fitness"] == "metrics/recall(B)"


def test_several_goals_each_keep_their_best(tiny_data: Path, tmp_path: Path):
    goals = {"precise": "mAP50", "complete": lambda found: found["metrics/recall(B)"]}
    trainer = make(tiny_data, tmp_path, Scripted, epochs=4, fitness=goals)
    trainer.train()
    files = {name: load_checkpoint(trainer.wdir / f"{name}.pt") for name in ("best", "best_precise", "best_complete")}
    assert {name: file["epoch"] for name, file in files.items()} == {"best": 2, "best_precise": 2, "best_complete": 1}
    assert files["best_complete"]["goals"] == {"precise": 0.2, "complete": 0.4}
    assert same(files["best"]["model"], files["best_precise"]["model"])
    assert [float(row["fitness/complete"]) for row in rows(trainer)] == [0.1, 0.4, 0.2, 0.3]
    assert "fitness" not in yaml.safe_load((trainer.save_dir / "args.yaml").read_text())  # a function is in it
    YOLO(trainer.wdir / "best_complete.pt")  # a file like any other


def test_without_the_setting_a_run_is_what_it_was(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, epochs=1)
    trainer.train()
    assert not [name for name in rows(trainer)[0] if name.startswith("fitness")]
    assert trainer.fitness == trainer.history["metrics/mAP50-95(B)"][0]
    assert not {"fitness", "log_metrics", "repeat_factor"} & set(trainer.in_force)


def test_minus_a_loss_stops_a_run_that_gets_worse(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, epochs=6, fitness="-val/box_loss-val/cls_loss", patience=2, lr0=1.0)
    losses = iter([3.0, 2.0, 2.5, 2.5, 2.5, 2.5])
    trainer.add_callback("on_val_end", lambda validator: validator.training and validator.loss.clear())
    trainer.label_loss_items = lambda items=None, prefix="train": (  # type: ignore[method-assign]
        [f"{prefix}/box_loss", f"{prefix}/cls_loss"]
        if items is None
        else {f"{prefix}/box_loss": next(losses) if prefix == "val" else 0.0, f"{prefix}/cls_loss": 0.0}
    )
    trainer.train()
    assert trainer.history["fitness/val_box_loss-val_cls_loss"] == [-3.0, -2.0, -2.5, -2.5]
    assert trainer.best_fitness == -2.0
    assert load_checkpoint(trainer.best)["epoch"] == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"fitness": "metrics/mAP5O(B)"}, r"Did you mean .*metrics/mAP50\(B\)"),
        ({"fitness": "f1/green"}, "Did you mean f1/"),
        ({"log_metrics": ["f2"]}, r"Did you mean .*f1\?"),
        ({"log_metrics": ["f1/green"]}, "f1/"),
    ],
)
def test_a_wrong_name_ends_the_run_before_it_begins(tiny_data: Path, tmp_path: Path, settings: Any, says: str):
    trainer = make(tiny_data, tmp_path, **settings)
    trainer.add_callback("on_train_start", lambda _: pytest.fail("an epoch would have begun"))
    with pytest.raises(SettingValueError, match=says):
        trainer.train()
    assert not trainer.save_dir.exists()


def test_a_trainers_own_fitness_goes_before_the_setting_and_that_is_said(
    tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    class Own(DetectionTrainer):
        def validate(self) -> Any:
            metrics, _ = super().validate()
            return metrics, -float(self.epoch)

    trainer = make(tiny_data, tmp_path, Own, epochs=2, fitness="recall", verbose=True)
    with caplog.at_level(logging.WARNING, logger="sightline"):
        trainer.train()
    assert sum("What validate() returns decides" in record.message for record in caplog.records) == 1
    assert load_checkpoint(trainer.best)["epoch"] == 0
    assert trainer.history["fitness/recall"] == [0.0, -1.0]


def test_logged_metrics_are_columns_and_scalars(tiny_data: Path, tmp_path: Path):
    trainer = make(
        tiny_data, tmp_path, epochs=2, val_interval=2, log_metrics=["f1", "AP50/*", "tp", "recall"], fitness="mAP75"
    )
    trainer.train()
    new = ["metrics/f1(B)", "metrics/AP50(B)/red", "metrics/AP50(B)/blue", "metrics/tp(B)", "metrics/mAP75(B)"]
    table = rows(trainer)
    assert [name for name in table[0] if name.startswith("metrics/")] == [
        "metrics/precision(B)", "metrics/recall(B)", "metrics/mAP50(B)", "metrics/mAP50-95(B)", *new,
    ]  # fmt: skip
    assert all(table[0][name] == "" and table[1][name] != "" for name in new)  # the first epoch was not validated
    assert all(math.isnan(trainer.history[name][0]) for name in new)
    box = trainer.validator.metrics.box  # of the final validation, like trainer.metrics
    assert trainer.metrics["metrics/f1(B)"] == float(box.f1.mean())
    assert trainer.metrics["metrics/AP50(B)/blue"] == float(box.ap50[1])
    assert all(isinstance(value, float) for value in trainer.metrics.values())
    assert float(table[1]["fitness/mAP75"]) == pytest.approx(trainer.history["metrics/mAP75(B)"][1], rel=1e-5)
    assert trainer.in_force["log_metrics"].startswith("logs metrics/f1(B), metrics/AP50(B)/red")


def test_validation_alone_logs_them_too(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, epochs=1)
    trainer.train()
    model = YOLO(trainer.last)
    metrics = model.val(
        data=str(tiny_data), imgsz=64, batch=4, device="cpu", project=str(tmp_path), log_metrics=["f1/*", "best_conf"]
    )
    found = metrics.results_dict
    assert list(found)[5:] == ["metrics/f1(B)/red", "metrics/f1(B)/blue", "metrics/best_conf(B)"]
    with pytest.raises(SettingValueError, match="Did you mean f1"):
        model.val(data=str(tiny_data), imgsz=64, device="cpu", project=str(tmp_path), log_metrics=["f1/rad"])


def test_all_of_it_goes_on_in_a_resumed_run(tiny_data: Path, tmp_path: Path):
    settings = {
        "epochs": 4, "optimizer": "SGD", "warmup_epochs": 1.0, "repeat_factor": 1.0,
        "fitness": ["recall", "-val/box_loss"], "log_metrics": ["f1"],
    }  # fmt: skip
    whole = make(tiny_data, tmp_path / "whole", Scripted, **settings)
    whole.train()

    def stop(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise Interrupted

    cut = make(tiny_data, tmp_path / "cut", Scripted, **settings)
    cut.add_callback("on_fit_epoch_end", stop)
    with pytest.raises(Interrupted):
        cut.train()
    resumed = Scripted(overrides={"resume": str(cut.last)})
    resumed.train()
    assert resumed.args.fitness == ["recall", "-val/box_loss"]
    assert same(weights(whole.last), weights(resumed.last))
    for name in ("best", "best_recall", "best_val_box_loss"):
        ours, theirs = (load_checkpoint(run.wdir / f"{name}.pt") for run in (resumed, whole))
        assert ours["epoch"] == theirs["epoch"]
        assert same(ours["model"], theirs["model"])
    assert [vars(goal) for goal in resumed.goals] == [
        {**vars(goal), "measure": mine.measure} for goal, mine in zip(whole.goals, resumed.goals, strict=True)
    ]
    a, b = rows(whole), rows(resumed)
    for row in a + b:
        del row["time"]
    assert a == b
    with pytest.raises(SettingValueError, match="fitness cannot change"):
        Scripted(overrides={"resume": str(cut.last), "fitness": "mAP50", "epochs": 5}).train()


def by_recall(metrics: dict[str, float]) -> float:
    return metrics["metrics/recall(B)"]


def test_a_function_is_given_again_on_resume(tiny_data: Path, tmp_path: Path):
    first = make(tiny_data, tmp_path, Scripted, epochs=2, fitness=by_recall)
    first.train()
    without = {"resume": str(first.last), "epochs": 3}
    with pytest.raises(SettingValueError, match=r"fitness=by_recall, which a checkpoint cannot hold.*by_recall\)\.$"):
        Scripted(overrides=without).train()
    resumed = Scripted(overrides={**without, "fitness": by_recall})
    resumed.train()
    assert [resumed.goals.goals[0].best, resumed.goals.goals[0].best_epoch] == [0.4, 2]
    assert load_checkpoint(resumed.best)["epoch"] == 1  # the third epoch has a lower recall


# ---------------------------------------------------------------------- repeat_factor


@pytest.fixture
def rare_data(tiny_data: Path, tmp_path: Path) -> Path:
    """The tiny data, but blue is in two of the eight training images."""
    import shutil

    shutil.copytree(tiny_data.parent, tmp_path / "rare", ignore=shutil.ignore_patterns("*.cache", "*.txt.tmp"))
    for i in range(6):
        label = tmp_path / "rare" / "labels" / "train" / f"{i}.txt"
        label.write_text("\n".join(row for row in label.read_text().splitlines() if row.startswith("0")))
    return tmp_path / "rare" / tiny_data.name


class Watching(DetectionTrainer):
    """Notes the files of every batch of the first epoch, and the batches themselves."""

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        if not hasattr(self, "seen"):
            self.seen: list[str] = []
            self.images: dict[str, list[torch.Tensor]] = {}
        if self.epoch == 0:
            self.seen += [Path(file).stem for file in batch["im_file"]]
            for file, image in zip(batch["im_file"], batch["img"], strict=True):
                self.images.setdefault(Path(file).stem, []).append(image.clone())
        return super().preprocess_batch(batch)


def test_rare_images_come_more_often_and_look_different(rare_data: Path, tmp_path: Path):
    trainer = make(rare_data, tmp_path, Watching, epochs=1, repeat_factor=1.0, mosaic=0.0)
    trainer.train()
    # blue is in 2 of 8 images: √(1 / 0.25) = 2; red in all: 1.
    assert Counter(trainer.seen) == {**{str(i): 1 for i in range(6)}, "6": 2, "7": 2}
    assert len(trainer.train_loader) == 3  # 10 samples in batches of 4
    assert not torch.equal(*trainer.images["6"])
    assert not torch.equal(*trainer.images["7"])
    assert trainer.in_force["repeat_factor"] == "blue ×2; an epoch has 10 samples of 8 images"


def test_off_repeats_nothing_and_a_threshold_nobody_is_below_says_so(rare_data: Path, tmp_path: Path):
    off = make(rare_data, tmp_path / "off", Watching, epochs=1)
    off.train()
    low = make(rare_data, tmp_path / "low", Watching, epochs=1, repeat_factor=0.25)
    low.train()
    assert off.seen == low.seen
    assert same(weights(off.last), weights(low.last))
    assert low.in_force["repeat_factor"] == "repeats nothing: every class is in at least 0.25 of the images"


def test_guests_of_mosaics_follow(rare_data: Path, tmp_path: Path):
    trainer = make(rare_data, tmp_path, epochs=1, repeat_factor=1.0)
    trainer.train()
    guests = trainer.train_loader.dataset.pipeline.guests
    assert guests.cumulative.tolist() == [1, 2, 3, 4, 5, 6, 8, 10]
    plain = make(rare_data, tmp_path, epochs=1, name="plain")
    plain.train()
    assert plain.train_loader.dataset.pipeline.guests.cumulative is None


def test_what_repeats_cannot_be_combined_with(rare_data: Path, tmp_path: Path):
    with pytest.raises(SettingValueError, match=r"repeat_factor=0\.5 repeats single images, but rect=True"):
        make(rare_data, tmp_path, repeat_factor=0.5, rect=True)

    class Own(DetectionTrainer):
        def build_dataset(self, *args: Any, **keywords: Any) -> Any:
            self.args.repeat_factor, before = 0.0, self.args.repeat_factor
            dataset = super().build_dataset(*args, **keywords)
            self.args.repeat_factor = before
            return dataset

    with pytest.raises(SettingValueError, match=r"has no effect: .* of Own"):
        make(rare_data, tmp_path, Own, repeat_factor=0.5).train()
