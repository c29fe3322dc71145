"""Pose estimators train, validate and predict; weights go to and from detectors; what cannot be is explained."""

from __future__ import annotations

import csv
import json
import logging
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from golden.golden import shared_data
from sightline import YOLO, PoseTrainer
from sightline.config.settings import Settings
from sightline.data.loader import build_dataset, check_flips
from sightline.data.spec import DatasetSpec, load_dataset_spec
from sightline.errors import DataError, ModelError, SettingValueError
from sightline.models.build import build_model
from sightline.validate.pose import PoseValidator
from train.test_resume import RUN, finish
from train.test_trainer import make, same, weights

TINY = """nc: 1
kpt_shape: [17, 3]
end2end: {end2end}
reg_max: {reg_max}
backbone:
  - {{block: Conv, channels: 8, kernel: 3, stride: 2}}
  - {{block: Conv, channels: 16, kernel: 3, stride: 2}}
  - {{block: C3k2, channels: 16, c3k: false, expansion: 0.5}}
  - {{block: Conv, channels: 16, kernel: 3, stride: 2, name: b3}}
  - {{block: Conv, channels: 32, kernel: 3, stride: 2, name: b4}}
head:
  - {{block: {head}, from: [b3, b4]}}
"""
FAST = {
    "imgsz": 64,
    "batch": 4,
    "epochs": 2,
    "workers": 0,
    "plots": False,
    "amp": False,
    "verbose": False,
    "device": "cpu",
}


def tiny_net(folder: Path, head: str = "Pose26") -> str:
    path = folder / f"{head.lower()}.yaml"
    new = head == "Pose26"
    path.write_text(TINY.format(head=head, end2end=str(new).lower(), reg_max=1 if new else 16))
    return str(path)


def write_data(root: Path, *, numbers: int = 3, extra: str = "flip_idx: [1, 0, 2]\n") -> Path:
    """8 + 4 images of 64 px: a red box whose upper corners are keypoints 0 and 1, and whose middle is 2."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(90, 120, (64, 64, 3), dtype=np.uint8)
            width, height = rng.integers(18, 36, 2)
            x, y = rng.integers(0, 64 - width), rng.integers(0, 64 - height)
            image[y : y + height, x : x + width] = (30, 30, 255)
            points = [(x, y), (x + width, y), (x + width / 2, y + height / 2)]
            seen = [""] * 3 if numbers == 2 else [" 2", " 1", " 2"]
            words = [f"{a / 64} {b / 64}{v}" for (a, b), v in zip(points, seen, strict=True)]
            row = f"0 {(x + width / 2) / 64} {(y + height / 2) / 64} {width / 64} {height / 64} {' '.join(words)}"
            cv2.imencode(".png", image)[1].tofile(root / "images" / split / f"{i}.png")
            # The last image has no object: its batch has no keypoints.
            (root / "labels" / split / f"{i}.txt").write_text("" if i == count - 1 else row)
    path = root / "pose.yaml"
    text = f"path: .\ntrain: images/train\nval: images/val\nnames: [box]\nkpt_shape: [3, {numbers}]\n{extra}"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("pose"))


def train(model: Any, data: Path, folder: Path, **settings: Any) -> YOLO:
    yolo = YOLO(model)
    yolo.train(data=str(data), project=str(folder), name="run", **{**FAST, **settings})
    return yolo


@pytest.mark.parametrize("head", ["Pose26", "Pose"])
def test_from_training_to_prediction(head: str, data: Path, tmp_path: Path):
    yolo = train(tiny_net(tmp_path, head), data, tmp_path)
    assert isinstance(yolo.trainer, PoseTrainer)
    rows = list(csv.DictReader((yolo.trainer.save_dir / "results.csv").open()))
    losses = ["box_loss", "pose_loss", "kobj_loss", "cls_loss", "dfl_loss", *(["rle_loss"] if head == "Pose26" else [])]
    columns = [name for name in rows[0] if name.startswith("train/")]
    assert columns == [f"train/{name}" for name in losses]
    assert "metrics/mAP50-95(P)" in rows[0]
    assert float(rows[1]["train/pose_loss"]) > 0

    again = YOLO(str(yolo.trainer.best))
    assert (again.task, again.model.kpt_shape) == ("pose", (3, 3))
    usual = {name: FAST[name] for name in ("imgsz", "batch", "device", "plots")}
    results = again.val(data=str(data), save_dir=str(tmp_path / "val"), coco_eval=True, save_json=True, **usual)
    assert 0 <= results.results_dict["metrics/coco/pose_AP"] <= 1
    written = json.loads((tmp_path / "val" / "predictions.json").read_text())
    assert {len(row["keypoints"]) for row in written} == {9}
    assert results.results_dict["metrics/mAP50-95(P)"] == pytest.approx(
        yolo.metrics.results_dict["metrics/mAP50-95(P)"], abs=1e-6
    )
    picture = str(data.parent / "images" / "val" / "0.png")
    (found,) = again.predict(picture, imgsz=64, conf=0.0001, device="cpu", save=False, verbose=False, max_det=5)
    assert found.keypoints.data.shape == (len(found.boxes), 3, 3)
    assert 1 <= len(found) <= 5
    assert float(found.keypoints.conf.min()) >= 0
    assert found.plot().shape == (64, 64, 3)


def test_pictures_of_a_run_show_keypoints(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The third one is green, as nothing else in these pictures is, and in the middle of each box."""
    monkeypatch.setattr(PoseValidator, "plot_metrics", lambda self: None)  # curves take a while

    def green(name: str) -> int:
        blue, green, red = cv2.imread(str(trainer.save_dir / name)).astype(int).transpose(2, 0, 1)
        return int(((green > red + 60) & (green > blue + 20)).sum())

    trainer = train(
        tiny_net(tmp_path), data, tmp_path, epochs=1, plots=True, mosaic=0, hsv_h=0, hsv_s=0, hsv_v=0, scale=0,
        translate=0,
    ).trainer  # fmt: skip
    assert green("train_batch0.jpg") > 8
    assert green("val_batch0_labels.jpg") > 8
    validator, batch = trainer.validator, next(iter(trainer.test_loader))
    objects, owner = validator.labelled(batch), batch["batch_idx"]
    found = [{name: value[owner == i] for name, value in objects.items()} for i in range(4)]
    found = [{**each, "conf": torch.ones(len(each["cls"]))} for each in found]
    validator.plot_predictions(batch, found, 7)
    with_keypoints = green("val_batch7_pred.jpg")
    validator.plot_predictions(batch, [{**each, "keypoints": each["keypoints"][:, :2]} for each in found], 7)
    assert with_keypoints > 8 > green("val_batch7_pred.jpg")
    assert cv2.imread(str(trainer.save_dir / "labels.jpg")).shape[0] > 1500  # a third row of panels


@pytest.mark.slow
def test_it_learns_where_the_keypoints_are(data: Path, tmp_path: Path):
    yolo = train(
        tiny_net(tmp_path), data, tmp_path, epochs=60, optimizer="AdamW", lr0=0.01, mosaic=0, scale=0, translate=0,
        hsv_h=0, hsv_s=0, hsv_v=0, warmup_epochs=1, batch=8, val=False,
    )  # fmt: skip
    rows = list(csv.DictReader((yolo.trainer.save_dir / "results.csv").open()))
    first, last = (float(rows[place]["train/pose_loss"]) for place in (0, -1))
    assert last < 0.3 * first


def test_two_numbers_a_keypoint(tmp_path: Path):
    path = write_data(tmp_path / "data", numbers=2)
    yolo = train(tiny_net(tmp_path), path, tmp_path, epochs=1)
    rows = list(csv.DictReader((yolo.trainer.save_dir / "results.csv").open()))
    assert float(rows[0]["train/kobj_loss"]) == 0
    (found,) = yolo.predict(
        str(path.parent / "images/val/0.png"), imgsz=64, conf=1e-4, device="cpu", verbose=False, max_det=3
    )
    assert found.keypoints.data.shape[1:] == (3, 2)
    assert found.keypoints.conf is None


def test_gains_and_sigmas_reach_the_loss(data: Path, tmp_path: Path):
    path = write_data(tmp_path / "data", extra="flip_idx: [1, 0, 2]\nkpt_sigmas: [0.1, 0.2, 0.3]\n")
    yolo = train(tiny_net(tmp_path), path, tmp_path, epochs=1, pose=3.0, kobj=0.5, rle=0.25)
    criterion = yolo.trainer.ema.ema.criterion or yolo.trainer.model.criterion
    branch = criterion.one2one
    assert (branch.hyp.pose, branch.hyp.kobj, branch.hyp.rle) == (3.0, 0.5, 0.25)
    assert branch.sigmas.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert yolo.trainer.validator.sigmas.tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_gains_of_keypoints_follow_the_stages(data: Path, tmp_path: Path):
    """No weight moves, so a batch that comes again loses what it lost, times the factor."""
    found: list[dict[str, float]] = []
    for folder, schedule in (("plain", None), ("staged", [{"until": 1}, {"pose": 3.0, "kobj": 0.5, "rle": 2.0}])):
        trainer = make(
            data, tmp_path / folder, PoseTrainer, model=tiny_net(tmp_path), optimizer="SGD", lr0=0.0, warmup_epochs=0,
            weight_decay=0.0, val=False, loss_schedule=schedule,
        )  # fmt: skip
        trainer.train()
        found.append({name: values[1] / values[0] for name, values in trainer.history.items() if "train/" in name})
    plain, staged = found
    ratios = {name.removeprefix("train/"): staged[name] / plain[name] for name in plain}
    wanted = {"pose_loss": 3.0, "kobj_loss": 0.5, "rle_loss": 2.0, "box_loss": 1.0, "cls_loss": 1.0, "dfl_loss": 1.0}
    assert ratios == pytest.approx(wanted, rel=1e-4)


def test_a_gain_that_no_term_reads_is_said(
    tiny_data: Path, data: Path, tiny_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    train(tiny_model, tiny_data, tmp_path, epochs=1, val=False, pose=3.0, loss_schedule=[{"until": 1, "rle": 2.0}])
    assert "pose, rle: the loss of this network has no such term (it has box_loss, cls_loss, dfl_loss)" in caplog.text
    caplog.clear()
    train(tiny_net(tmp_path), data, tmp_path, epochs=1, val=False, pose=3.0, rle=2.0)
    assert "no such term" not in caplog.text


def test_resuming_goes_on(data: Path, tmp_path: Path):
    yolo = train(tiny_net(tmp_path), data, tmp_path, epochs=1)
    again = YOLO(str(yolo.trainer.last))
    again.resume(epochs=2)
    rows = list(csv.DictReader((again.trainer.save_dir / "results.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    other = write_data(tmp_path / "other", numbers=2)
    with pytest.raises(SettingValueError, match=r"kpt_shape \[3, 3\]"):
        YOLO(str(yolo.trainer.last)).resume(epochs=3, data=str(other))


def test_stopped_in_an_epoch_and_gone_on_with_it_ends_with_the_same_bytes(data: Path, tmp_path: Path):
    """With RUN's mosaic, several sizes and two batches a step, as test_resume.py does it for boxes."""

    def run(folder: Path, *stops: int) -> dict[str, torch.Tensor]:
        settings = {**RUN, "model": tiny_net(tmp_path), "epochs": 2}
        return weights(finish(make(data, folder, PoseTrainer, **settings), *stops).last)

    assert same(run(tmp_path / "whole"), run(tmp_path / "stopped", 1, 5))


@pytest.mark.slow
def test_two_processes(data: Path, tmp_path: Path):
    yolo = train(tiny_net(tmp_path), data, tmp_path, nproc=2)
    rows = list(csv.DictReader((yolo.trainer.save_dir / "results.csv").open()))
    assert all(float(rows[1][f"train/{name}_loss"]) > 0 for name in ("box", "pose", "kobj", "cls", "rle"))
    assert (yolo.task, yolo.model.kpt_shape) == ("pose", (3, 3))


# ------------------------------------------------------------------ weights of detectors, and for them


def test_a_detector_starts_a_pose_model_and_the_other_way_round(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    detector, pose = YOLO("yolo26n.yaml"), YOLO("yolo26n-pose.yaml")
    detector.save(tmp_path / "detector.pt")
    pose.save(tmp_path / "pose.pt")
    with caplog.at_level(logging.INFO, logger="sightline"):
        pose.load(str(tmp_path / "detector.pt"))
    own, theirs = pose.model.state_dict(), detector.model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in theirs.items())
    assert f"transferred {len(theirs)}/{len(own)} tensors" in caplog.text
    assert "not transferred: model.23.cv4.0.0.conv.weight" in caplog.text

    caplog.clear()
    fresh = YOLO("yolo26n.yaml")
    with caplog.at_level(logging.INFO, logger="sightline"):
        fresh.load(str(tmp_path / "pose.pt"))
    there = YOLO(str(tmp_path / "pose.pt")).model.state_dict()
    assert all(torch.equal(value, there[name]) for name, value in fresh.model.state_dict().items())
    assert f"transferred {len(theirs)}/{len(theirs)} tensors" in caplog.text
    assert f"{len(there) - len(theirs)} of the source have no place here" in caplog.text


def test_pretrained_takes_a_detector(data: Path, tmp_path: Path, tiny_model: str):
    YOLO(tiny_model).save(tmp_path / "detector.pt")
    yolo = train(tiny_net(tmp_path), data, tmp_path, epochs=1, pretrained=str(tmp_path / "detector.pt"))
    assert yolo.task == "pose"
    with pytest.raises(ModelError, match=r"task=detect.*trains task=pose.*pretrained="):
        PoseTrainer(
            overrides={**FAST, "model": str(tmp_path / "detector.pt"), "data": str(data), "project": str(tmp_path)}
        ).train()


def test_pretrained_of_a_detector_takes_a_pose_model(tmp_path: Path, tiny_model: str):
    YOLO(tiny_net(tmp_path)).save(tmp_path / "pose.pt")
    yolo = train(tiny_model, "shapes", tmp_path, epochs=1, pretrained=str(tmp_path / "pose.pt"), fraction=0.1)
    assert yolo.task == "detect"
    assert type(yolo.model.head).task == "detect"


def test_other_keypoints_take_over_what_fits(data: Path, tmp_path: Path):
    network = build_model(tiny_net(tmp_path), kpt_shape=(5, 3))
    yolo = train(network, data, tmp_path, epochs=1)
    assert yolo.model.kpt_shape == (3, 3)


# ------------------------------------------------------------------ data


def test_a_mirror_needs_the_order_of_the_keypoints(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    spec = load_dataset_spec(write_data(tmp_path / "data", extra=""))
    settings = Settings()
    with caplog.at_level(logging.WARNING, logger="sightline"):
        dataset = build_dataset(settings, spec, mode="train", batch_size=2, task="pose")
    assert settings.fliplr == 0
    assert dataset.pipeline.flip_left_right.probability == 0
    assert "fliplr=0" in caplog.text
    assert "flip_idx" in caplog.text
    asked = Settings(fliplr=0.3)
    with pytest.raises(SettingValueError, match=r"fliplr=0\.3.*flip_idx: \["):
        check_flips(asked, spec)
    detector = Settings()
    build_dataset(detector, spec, mode="train", batch_size=2, task="detect")  # boxes have no sides
    assert detector.fliplr == 0.5


@pytest.mark.parametrize("name", ["coco-mini-pose", "glue-tubes-pose"])
def test_real_data(name: str):
    folder = shared_data(name)
    spec = load_dataset_spec(folder / f"{name}.yaml")
    dataset = build_dataset(Settings(imgsz=128), spec, mode="train", batch_size=4, task="pose")
    batch = dataset.collate_fn([dataset[i] for i in range(4)])
    assert batch["keypoints"].shape == (len(batch["bboxes"]), spec.kpt_shape[0], 3)
    seen = batch["keypoints"][batch["keypoints"][..., 2] > 0]
    assert len(seen) > 4
    assert 0 <= float(seen[:, :2].min()) <= float(seen[:, :2].max()) <= 1


def test_data_without_keypoints(tiny_data: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"no `kpt_shape`.*task=detect"):
        train(tiny_net(tmp_path), tiny_data, tmp_path)


def test_a_model_of_other_keypoints_cannot_be_validated(data: Path, tmp_path: Path):
    network = build_model(tiny_net(tmp_path), kpt_shape=(5, 3), names=["box"])
    with pytest.raises(ModelError, match=r"5 keypoints.*has 3"):
        YOLO(network).val(data=str(data), imgsz=64, device="cpu")


def test_a_detector_has_no_keypoints():
    with pytest.raises(ModelError, match=r"DetectionModel.*no kpt_shape.*Pose, Pose26"):
        build_model("yolo26n.yaml", kpt_shape=(17, 3))
    with pytest.raises(ModelError, match="task=pose, not task=detect"):
        YOLO("yolo26n-pose.yaml", task="detect")


# ------------------------------------------------------------------ the guide


PAGE = Path(__file__).resolve().parents[2] / "docs" / "pose.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", range(2))
def test_the_code_of_the_guide_runs(number: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    picture = data.parent / "images" / "val" / "0.png"
    Path("picture.png").write_bytes(picture.read_bytes())
    block = BLOCKS[number].replace('data="shapes-pose"', "data=DATA, batch=4, workers=0, plots=False, device='cpu'")
    block = re.sub(r"epochs=\d+, imgsz=\d+", "epochs=1, imgsz=64, val=False", block)
    made = {"DATA": str(data)}
    exec(compile(block, f"{PAGE.name}, block {number}", "exec"), made)
    assert len(BLOCKS) == 2
    assert Path("runs/pose/train/weights/best.pt").exists()
    args = yaml.safe_load(PAGE.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0])
    assert DatasetSpec.from_dict(args).kpt_oks_sigmas == (0.05, 0.1)
