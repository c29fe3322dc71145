"""`sightline doctor …` as a user types it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch

from sightline.cli.main import main
from sightline.config.load import make_settings
from sightline.config.settings import Settings
from sightline.doctor.overfit import OverfitReport, overfit
from sightline.doctor.task import settle_task
from sightline.errors import DataError
from sightline.facade import YOLO
from sightline.train.detect import DetectionTrainer
from sightline.train.pose import PoseTrainer
from train.test_pose import tiny_net


def test_settings_are_reviewed_without_leaving_anything(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    words = [
        f"data={tiny_data}",
        "model=yolo26n.yaml",
        "imgsz=64",
        "batch=2",
        "optimizer=AdamW",
        "lr0=0.05",
        "device=cpu",
    ]
    assert main(["doctor", "settings", *words]) == 0
    text = capsys.readouterr().out
    assert "AdamW lr0=0.05, batch=2 × 32 = 64 images a step, 100 epochs of 4 batches" in text
    assert "! lr0: lr0=0.05 with AdamW" in text
    assert "! batch norm: 2 images a device" in text
    assert list(tmp_path.iterdir()) == []


def test_the_fixed_numbers_of_the_bins_are_no_frozen_layer(tiny_data: Path, capsys: pytest.CaptureFixture[str]):
    words = [f"data={tiny_data}", "model=yolo12n.yaml", "imgsz=64", "batch=4", "device=cpu"]
    assert main(["doctor", "settings", *words]) == 0
    assert "frozen" not in capsys.readouterr().out
    assert main(["doctor", "settings", *words, "freeze=2"]) == 0
    assert "! frozen layers" in capsys.readouterr().out


def test_a_batch_to_be_found_is_found(tiny_data: Path, tiny_model: str, capsys: pytest.CaptureFixture[str]):
    words = [f"data={tiny_data}", f"model={tiny_model}", "imgsz=64", "batch=0.5", "scheduler=onecycle", "device=cpu"]
    assert main(["doctor", "settings", *words]) == 0
    text = capsys.readouterr().out
    assert "batch=8 × 1 = 8 images a step, 100 epochs of 1 batch\n" in text  # there are no more
    assert "warm up" not in text


def test_frozen_layers_and_group_norm_are_seen_in_the_network(tiny_data: Path, capsys: pytest.CaptureFixture[str]):
    words = [f"data={tiny_data}", "model=yolo26n.yaml", "imgsz=64", "batch=2", "norm=gn", "freeze=10", "device=cpu"]
    assert main(["doctor", "settings", *words]) == 0
    text = capsys.readouterr().out
    assert "frozen at random values" in text
    assert "batch norm" not in text


def test_what_the_settings_come_to_is_judged(tiny_data: Path, capsys: pytest.CaptureFixture[str]):
    words = [f"data={tiny_data}", "model=yolo26n.yaml", "imgsz=64", "batch=4", "device=cpu", "optimizer=SGD"]
    words += [
        "lr0=0.16",
        "lr_scale=linear",
        "warmup_steps=1600",
        "epochs=100",
        "sync_bn=True",
        "val=False",
        "patience=2",
    ]
    assert main(["doctor", "settings", *words]) == 0
    text = capsys.readouterr().out
    assert "SGD lr0=0.01, batch=4" in text  # 0.16 × 4 / 64
    assert " lr0: " not in text
    assert "the warm-up takes 12800 of 100 epochs" in text  # 1600 steps of 16 batches, two batches an epoch
    assert "! sync bn: sync_bn=True with one process" in text
    assert "accumulation:" not in text  # that was said
    assert "patience" not in text  # nothing is validated before the end


@pytest.mark.parametrize("command", ["settings", "overfit"])
def test_a_run_that_goes_on_is_for_another_command(command: str, capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", command, "resume=runs/detect/train"]) == 2
    assert "sightline doctor run" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["settings"], ["overfit", "model=yolo26n.yaml"], ["data"]])
def test_what_is_missing_is_named(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", *words]) == 2
    assert "data=" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["-h"], ["run", "-h"], ["replay", "--help"]])
def test_help_is_no_error(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", *words]) == 0
    assert "Usage: sightline doctor" in capsys.readouterr().out


def test_a_folder_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    (tmp_path / "cells").mkdir()
    monkeypatch.chdir(tmp_path / "cells")
    assert main(["doctor", "data", "data=."]) != 0
    assert "one called cells.yaml" in capsys.readouterr().err


def test_a_misspelt_setting_is_an_error(capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "data", "dta=x.yaml"]) == 2
    assert "data" in capsys.readouterr().err


def test_a_run_folder_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "run", str(tmp_path)]) == 1
    assert "no run folder" in capsys.readouterr().err


class Blind(DetectionTrainer):
    """Sees nothing: every image is grey."""

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess_batch(batch)
        return {**batch, "img": torch.full_like(batch["img"], 0.5)}


def settings_of(data: Path, **more: Any) -> Any:
    return make_settings(
        "train", {"model": "yolo26n.yaml", "data": str(data), "imgsz": 64, "device": "cpu", "amp": False, **more}
    )


def report_of(map50: float, *losses: float) -> str:
    report = OverfitReport(images=2, objects=4, steps=len(losses), losses=list(losses), map50=map50, map=map50 / 2)
    return "\n".join(report.lines())


def test_what_a_batch_tells():
    falls, stays = [10.0 - 0.09 * step for step in range(100)], [10.0] * 100
    assert "One batch can be learnt" in report_of(0.9, *falls)
    assert "learnt in part" in report_of(0.2, *stays)
    assert "learnt in part" in report_of(0.0, *falls)
    assert "NOT learnt" in report_of(0.1, *stays)
    assert "5 steps are too few" in report_of(0.0, *stays[:5])  # that says nothing of labels and network


@pytest.mark.parametrize(
    ("map50", "pose_map50", "with_keypoints", "verdict"),
    [
        (0.9, 0.8, 4, "One batch can be learnt, boxes and keypoints"),
        (0.9, 0.45, 2, "One batch can be learnt, boxes and keypoints"),  # the other two objects have none to find
        (0.9, 0.45, 4, "The boxes are learnt, the keypoints in part"),
        (0.9, 0.1, 4, "✗ The boxes are learnt, but NOT the keypoints"),
        (0.4, 0.0, 4, "✗ The boxes are learnt in part, but NOT the keypoints"),
        (0.4, 0.2, 4, "The batch is learnt in part"),
        (0.0, 0.0, 4, "✗ The batch is NOT learnt"),
    ],
)
def test_keypoints_are_judged_beside_boxes(map50: float, pose_map50: float, with_keypoints: int, verdict: str):
    report = OverfitReport(
        images=2, objects=4, steps=200, losses=[10.0] * 200, map50=map50, map=map50 / 2, with_keypoints=with_keypoints,
        pose_map50=pose_map50, pose_map=pose_map50 / 2,
    )  # fmt: skip
    _, scores, said = report.lines()
    assert said.startswith(verdict)
    assert report.learnt == said.startswith("One batch")
    assert f"of keypoints {pose_map50:.3f}" in scores
    assert ("2 of the objects have no labelled ones" in scores) == (with_keypoints == 2)


class Astray(PoseTrainer):
    """Every keypoint is labelled somewhere else in each step."""

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess_batch(batch)
        keypoints = batch["keypoints"].clone()
        keypoints[..., :2] = torch.rand_like(keypoints[..., :2])
        return {**batch, "keypoints": keypoints}


def write_keypoints(root: Path, labels: list[str]) -> str:
    """An image of 64 px for each label of two keypoints, or several."""
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    for i, label in enumerate(labels):
        image = np.full((64, 64, 3), 60, np.uint8)
        for row in label.splitlines():
            cx, cy, w, h = (float(word) * 64 for word in row.split()[1:5])
            image[int(cy - h / 2) : int(cy + h / 2), int(cx - w / 2) : int(cx + w / 2)] = (30, 30, 255)
        cv2.imwrite(str(root / "images" / f"{i}.png"), image)
        (root / "labels" / f"{i}.txt").write_text(label)
    (root / "pose.yaml").write_text(
        "path: .\ntrain: images\nval: images\nnames: [box]\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\n"
        "kpt_oks_sigmas: [0.1, 0.1]\n"  # the usual 1/K takes the middle of the box for right
    )
    return str(root / "pose.yaml")


BOX = "0 0.5 0.5 0.5 0.5"
FULL, EMPTY = f"{BOX} 0.25 0.25 2 0.75 0.75 2", f"{BOX} 0 0 0 0 0 0"


def test_images_whose_objects_have_keypoints_come_first(tmp_path: Path, tiny_model: str):
    data = write_keypoints(tmp_path / "data", [EMPTY, f"{EMPTY}\n{FULL}", FULL, "", FULL])
    model = "yolo26n-pose.yaml"
    report = overfit(settings_of(Path(data), model=model, epochs=1), images=2)
    assert (report.objects, report.with_keypoints) == (2, 2)
    report = overfit(settings_of(Path(data), model=model, epochs=1), images=9)
    assert (report.images, report.objects, report.with_keypoints) == (3, 4, 3)
    assert overfit(settings_of(Path(data), model=tiny_model, epochs=1), images=9).with_keypoints is None
    nothing = write_keypoints(tmp_path / "nothing", [EMPTY, EMPTY])
    with pytest.raises(DataError, match="object with a labelled keypoint"):
        overfit(settings_of(Path(nothing), model=model, epochs=1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer", "verdict"), [(PoseTrainer, "One batch can be learnt, boxes and"), (Astray, "NOT the keypoints")]
)
def test_keypoints_of_a_batch_can_be_learnt(trainer: type, verdict: str, tmp_path: Path):
    rows = [f"0 {x} {y} 0.4 0.3 {x - 0.2} {y - 0.15} 2 {x + 0.2} {y + 0.15} 2" for x, y in ((0.3, 0.6), (0.6, 0.4))]
    data = write_keypoints(tmp_path / "data", rows)
    settings = settings_of(Path(data), model=tiny_net(tmp_path), optimizer="AdamW", lr0=0.01)
    report = overfit(settings, trainer=trainer)
    assert verdict in "\n".join(report.lines())


def test_a_batch_that_cannot_be_learnt_is_told(tiny_data: Path):
    report = overfit(settings_of(tiny_data, epochs=5), trainer=Blind, images=2)
    assert (report.images, report.objects, report.steps) == (2, 4, 5)
    assert not report.learnt


class Recorder(DetectionTrainer):
    """Remembers what its run began with."""

    seen: ClassVar[dict[str, Any]] = {}

    def _do_train(self) -> None:
        super()._do_train()
        Recorder.seen = {"lr": self.optimizer.param_groups[0]["initial_lr"], "batches_per_step": self.accumulate,
                         "validated": self.validated, **self.args.to_dict()}  # fmt: skip


def test_what_is_about_a_long_run_is_left_out_of_a_short_one(tiny_data: Path, tiny_model: str):
    settings = settings_of(
        tiny_data, model=tiny_model, preset="long-run", epochs=2, classes=[1], lr_scale="linear", val=False,
        dry_run=True, warmup_steps=50, freeze=1, unfreeze_epoch=50, optimizer="SGD", lr0=0.01,
    )  # fmt: skip
    report = overfit(settings, trainer=Recorder, images=2)
    assert (report.objects, report.steps) == (2, 2)  # one of the two in each image is of class 1; a step each epoch
    seen = Recorder.seen
    assert (seen["lr"], seen["batches_per_step"], seen["validated"]) == (0.01, 1, True)
    assert seen["augment_schedule"] is seen["loss_schedule"] is seen["restart_epoch"] is None
    assert seen["degrees"] == seen["translate"] == seen["mosaic"] == 0


def test_the_length_of_a_preset_is_not_that_of_the_check(tiny_data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sightline.doctor.overfit.STEPS", 3)
    assert overfit(settings_of(tiny_data, preset="long-run"), images=1).steps == 3


@pytest.mark.slow
def test_a_batch_can_be_learnt(tiny_data: Path):
    report = overfit(settings_of(tiny_data), images=4)
    assert report.map50 > 0.6
    assert "One batch can be learnt" in "\n".join(report.lines())


def test_a_dump_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "replay", str(tmp_path / "epoch1-batch2.pt")]) == 2
    assert "dumps/ of a run folder" in capsys.readouterr().err


def test_the_task_is_that_of_the_model(tmp_path: Path):
    YOLO("yolo26n-pose.yaml").save(tmp_path / "pose.pt")
    for model, expected in (("yolo26n-pose.yaml", "pose"), (str(tmp_path / "pose.pt"), "pose"), ("yolo26n", "detect")):
        settings = Settings(model=model if model != "yolo26n" else "yolo26n.yaml")
        settle_task(settings)
        assert settings.task == expected
    asked = Settings(model="yolo26n-pose.yaml", task="detect")
    settle_task(asked)
    assert asked.task == "detect"  # the run says what does not fit
    of_network = Settings()
    settle_task(of_network, source=YOLO("yolo26n-pose.yaml").model)
    assert of_network.task == "pose"
    for called in ({}, {"task": "detect"}):  # as it is called elsewhere
        settings = Settings(model="rtdetr-l.yaml", **called)
        settle_task(settings)
        assert settings.task == "rtdetr"
