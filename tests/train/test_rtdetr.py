"""RT-DETR trains, validates and predicts; its own recipe fills what nobody set; what cannot be is explained."""

from __future__ import annotations

import copy
import csv
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from golden.golden import shared_data
from models.small_rtdetr import HGNET, RESNET
from models.test_backbone_weights import resnet
from sightline import RTDETR, YOLO, RTDETRTrainer, RTDETRValidator
from sightline.cli.run import run
from sightline.data.loader import build_dataset
from sightline.data.spec import load_dataset_spec
from sightline.errors import MissingFileError, ModelError, SettingValueError
from sightline.models.build import build_model
from sightline.predict.rtdetr import RTDETRPredictor
from train.test_trainer import make


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("networks") / "small-rtdetr.yaml"
    path.write_text(yaml.safe_dump(HGNET))
    return str(path)


def rtdetr(data: Path, folder: Path, network: str, **settings: Any) -> RTDETRTrainer:
    trainer = make(data, folder, trainer=RTDETRTrainer, model=network, **{"epochs": 1, "batch": 4, **settings})
    assert isinstance(trainer, RTDETRTrainer)
    return trainer


# ---------------------------------------------------------------------------------------------------- the recipe


def test_what_nobody_set_is_that_of_the_paper(tiny_data: Path, tmp_path: Path, network: str):
    args = rtdetr(tiny_data, tmp_path, network).args
    assert (args.optimizer, args.lr0, args.weight_decay, args.momentum) == ("AdamW", 1e-4, 1e-4, 0.9)
    assert (args.clip_grad, args.mosaic, args.warmup_bias_lr) == (0.1, 0.0, 0.0)
    assert (args.box, args.cls, args.dfl) == (2.0, 1.0, 5.0)
    assert {args.origin(name) for name in ("optimizer", "lr0", "clip_grad", "mosaic", "box")} == {"auto"}


def test_the_users_own_values_win(tiny_data: Path, tmp_path: Path, network: str):
    own = {"lr0": 3e-4, "clip_grad": 1.0, "mosaic": 0.5, "box": 3.0, "weight_decay": 0.01}
    args = rtdetr(tiny_data, tmp_path, network, **own).args
    assert {name: getattr(args, name) for name in own} == own
    assert args.optimizer == "AdamW"
    other = rtdetr(tiny_data, tmp_path, network, optimizer="SGD").args
    assert (other.optimizer, other.lr0, other.momentum) == ("SGD", 0.01, 0.937)  # those of AdamW would mean nothing
    assert other.clip_grad == 0.1
    assert rtdetr(tiny_data, tmp_path, network, optimizer="auto").args.optimizer == "AdamW"


def test_six_groups_and_a_long_warm_up_of_all(
    tiny_data: Path, tmp_path: Path, network: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    trainer = rtdetr(tiny_data, tmp_path, network, epochs=15)
    rates: list[list[float]] = []
    trainer.add_callback("on_train_batch_end", lambda t: rates.append([g["lr"] for g in t.optimizer.param_groups]))
    trainer.add_callback("on_train_batch_end", stop)
    trainer.train()
    length = len(trainer.network.yaml["backbone"])
    groups = trainer.optimizer.param_groups
    assert [group["name"] for group in groups] == [
        f"{part} {kind} ×1" for part in ("head", "backbone") for kind in ("weight", "bn", "bias")
    ]
    by_id = {id(parameter): name for name, parameter in trainer.network.named_parameters()}
    for group in groups:
        names = [by_id[id(parameter)] for parameter in group["params"]]
        assert names
        assert {int(name.split(".")[1]) < length for name in names} == {"backbone" in group["name"]}
        decays = group["weight_decay"] > 0
        assert decays == ("weight" in group["name"])
        assert all(("bias" in name) == ("bias" in group["name"]) for name in names)
    assert sum(len(group["params"]) for group in groups) == len(by_id)
    assert trainer.args.nbs == 4  # every batch is a step
    assert trainer.args.warmup_steps == 3  # a tenth of 15 · 2
    assert set(rates[0]) == {0.0}  # biases, too
    assert rates[1] == pytest.approx([1e-4 / 3] * 6, rel=0.02)
    assert "backbone_lr_ratio=1: the weights of the backbone, layers 0–5, are random" in caplog.text
    assert trainer.loss_names == ("giou_loss", "cls_loss", "l1_loss")


def stop(trainer: Any) -> None:
    """After two batches."""
    trainer.stop_training = trainer.batch_index > 0


def test_a_backbone_that_was_loaded_is_slower(tiny_data: Path, tmp_path: Path, network: str):
    YOLO(network).save(tmp_path / "some.pt")
    slow = rtdetr(tiny_data, tmp_path, network, pretrained=str(tmp_path / "some.pt"), val=False)
    slow.add_callback("on_train_batch_end", stop)
    slow.train()
    rates = {group["name"]: group["initial_lr"] for group in slow.optimizer.param_groups}
    assert rates["head weight ×1"] == pytest.approx(1e-4)
    assert rates["backbone weight ×0.1"] == pytest.approx(1e-5)
    assert "6 groups" in slow.in_force["backbone_lr_ratio"]
    own = rtdetr(tiny_data, tmp_path, network, backbone_lr_ratio=0.5, val=False, pretrained=str(tmp_path / "some.pt"))
    own.add_callback("on_train_batch_end", stop)
    own.train()
    assert {group["name"] for group in own.optimizer.param_groups} >= {"backbone weight ×0.5"}


# ---------------------------------------------------------------------------------------------------- a run


def test_a_run_and_what_it_leaves(tiny_data: Path, tmp_path: Path, network: str):
    model = RTDETR(network)
    metrics = model.train(
        data=str(tiny_data), epochs=2, imgsz=64, batch=4, project=str(tmp_path), name="run", device="cpu", plots=True,
        verbose=False,
    )  # fmt: skip
    assert model.task == "rtdetr"
    with (tmp_path / "run" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"train/giou_loss", "train/cls_loss", "train/l1_loss", "val/giou_loss", "lr/pg5"} <= set(rows[-1])
    assert all(float(row["train/l1_loss"]) > 0 for row in rows)
    assert (tmp_path / "run" / "train_batch0.jpg").exists()
    assert (tmp_path / "run" / "val_batch0_pred.jpg").exists()
    assert "metrics/mAP50-95(B)" in metrics.results_dict
    again = RTDETR(str(tmp_path / "run" / "weights" / "best.pt"))
    assert again.names == {0: "red", 1: "blue"}
    found = again.val(imgsz=64, plots=False, project=str(tmp_path), device="cpu")
    assert found.box.map == pytest.approx(metrics.box.map, abs=1e-9)
    saved = yaml.safe_load((tmp_path / "run" / "args.yaml").read_text())
    assert (saved["task"], saved["optimizer"], saved["clip_grad"]) == ("rtdetr", "AdamW", 0.1)


def test_it_resumes_with_the_numbers_that_were_filled_in(tiny_data: Path, tmp_path: Path, network: str):
    first = rtdetr(tiny_data, tmp_path, network, epochs=4, val=False)
    first.add_callback("on_train_epoch_end", lambda t: setattr(t, "stop_training", True))
    first.train()
    resumed = RTDETRTrainer(overrides={"resume": str(first.last)})
    resumed.train()
    for name in ("backbone_lr_ratio", "warmup_steps", "nbs", "ema_tau", "lr0", "box"):
        assert getattr(resumed.args, name) == getattr(first.args, name)
    assert [group["name"] for group in resumed.optimizer.param_groups] == [
        group["name"] for group in first.optimizer.param_groups
    ]


# ---------------------------------------------------------------------------------------------------- geometry


@pytest.fixture
def wide_data(tmp_path: Path) -> Path:
    """One picture of 80 × 40 with a box from (10, 10) to (50, 30)."""
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    image = np.full((40, 80, 3), 90, np.uint8)
    image[10:30, 10:50] = (30, 30, 255)
    cv2.imwrite(str(tmp_path / "images" / "0.png"), image)
    (tmp_path / "labels" / "0.txt").write_text("0 0.375 0.5 0.5 0.5")
    path = tmp_path / "wide.yaml"
    path.write_text("path: .\ntrain: images\nval: images\nnames: [red, blue]\n")
    return path


def test_images_are_stretched_in_training_and_validation(wide_data: Path, tmp_path: Path, network: str):
    trainer = rtdetr(wide_data, tmp_path, network, scale=0, translate=0, fliplr=0, hsv_h=0, hsv_s=0, hsv_v=0)
    for mode in ("train", "val"):
        sample = trainer.build_dataset(trainer.data[mode], mode)[0]
        assert sample["img"].shape == (3, 64, 64)
        torch.testing.assert_close(sample["bboxes"], torch.tensor([[0.375, 0.5, 0.5, 0.5]]), atol=1e-6, rtol=0)
        red = (sample["img"][0] > 200) & (sample["img"][2] < 60)
        rows, columns = torch.where(red)
        assert (rows.min(), rows.max() + 1) == (pytest.approx(16, abs=1), pytest.approx(48, abs=1))
        assert (columns.min(), columns.max() + 1) == (pytest.approx(8, abs=1), pytest.approx(40, abs=1))


class Fixed(torch.nn.Module):
    """In the place of the network: the right answer for `wide_data`, whatever comes in."""

    def forward(self, images: torch.Tensor) -> Any:
        rows = torch.tensor([[0.375, 0.5, 0.5, 0.5, 0.9, 0.0], [0.9, 0.9, 0.4, 0.4, 0.3, 1.0]])
        return rows.expand(len(images), -1, -1), None


def test_boxes_come_back_in_pixels_of_the_picture(wide_data: Path, network: str):
    predictor = RTDETRPredictor(args={"imgsz": 64, "conf": 0.1, "save": False, "verbose": False})
    predictor.setup_model(build_model(network, nc=2))
    assert predictor.model is not None
    predictor.model.network.forward = Fixed().forward
    (result,) = predictor(str(wide_data.parent / "images"))
    # The second one is cut off at the edges of the picture.
    torch.testing.assert_close(result.boxes.xyxy, torch.tensor([[10.0, 10, 50, 30], [56, 28, 80, 40]]))
    assert result.boxes.cls.tolist() == [0, 1]


def test_validation_compares_in_the_stretched_picture(wide_data: Path, tmp_path: Path, network: str):
    validator = RTDETRValidator(
        args={"data": str(wide_data), "imgsz": 64, "plots": False, "save_json": True, "batch": 1}, save_dir=tmp_path
    )
    model = build_model(network, nc=2, names={0: "red", 1: "blue"})
    model.forward = Fixed().forward
    model.fuse = lambda verbose=False: model  # the copy keeps this forward
    stats = validator(model=model)
    assert stats["metrics/mAP50-95(B)"] == pytest.approx(0.995)
    first = next(row for row in validator.jdict if row["score"] > 0.5)
    assert first["bbox"] == pytest.approx([10, 10, 40, 20], abs=0.01)


# ---------------------------------------------------------------------------------------------------- backbone weights


def test_backbone_weights_of_a_classifier(tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    (tmp_path / "net.yaml").write_text(yaml.safe_dump(RESNET))
    state = resnet(16, ((8, 1), (8, 2), (16, 1)))  # the widths of RESNET
    torch.save(state, tmp_path / "resnet.pth")
    trainer = rtdetr(
        tiny_data, tmp_path, str(tmp_path / "net.yaml"), backbone_weights=str(tmp_path / "resnet.pth"), val=False
    )
    seen: dict[str, torch.Tensor] = {}
    trainer.add_callback("on_train_start", lambda t: seen.update(copy.deepcopy(t.network.state_dict())))
    trainer.add_callback("on_train_batch_end", stop)
    trainer.train()
    torch.testing.assert_close(seen["model.0.layer.0.conv.weight"], state["conv1.weight"])
    torch.testing.assert_close(seen["model.2.layer.1.cv2.conv.weight"], state["layer2.1.conv2.weight"])
    torch.testing.assert_close(seen["model.3.layer.0.shortcut.0.bn.bias"], state["layer3.0.downsample.1.bias"])
    total = len([name for name in seen if int(name.split(".")[1]) < 4 and not name.endswith("num_batches_tracked")])
    assert trainer.in_force["backbone_weights"] == f"{total} of the backbone's {total} tensors loaded"
    assert "still random: nothing" in caplog.text
    assert "backbone_lr_ratio=0.1: the weights of the backbone, layers 0–3, were loaded" in caplog.text


def test_backbone_weights_that_cannot_be(tiny_data: Path, tmp_path: Path, network: str):
    with pytest.raises(MissingFileError, match=r"nowhere\.pth"):
        rtdetr(tiny_data, tmp_path, network, backbone_weights=str(tmp_path / "nowhere.pth")).train()
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"backbone_weights=.*other\.pth: nothing of it fits the backbone.*a\.weight"):
        rtdetr(tiny_data, tmp_path, network, backbone_weights=str(tmp_path / "other.pth")).train()


def test_backbone_weights_of_a_network_with_the_same_layers(tiny_data: Path, tmp_path: Path, tiny_model: str):
    """Of a YOLO, too; its head stays as it was built."""
    other = YOLO(tiny_model)
    other.save(tmp_path / "other.pt")
    trainer = make(tiny_data, tmp_path, model=tiny_model, epochs=1, val=False, seed=3)
    trainer.args.assign("backbone_weights", str(tmp_path / "other.pt"), origin="code")
    seen: dict[str, torch.Tensor] = {}
    trainer.add_callback("on_train_start", lambda t: seen.update(copy.deepcopy(t.network.state_dict())))
    trainer.train()
    given = other.model.state_dict()
    different = {
        int(name.split(".")[1]) < 5 for name in seen if "weight" in name and not torch.equal(seen[name], given[name])
    }
    assert different == {False}  # of the head only


# ---------------------------------------------------------------------------------------------------- its loss


def test_settings_of_the_loss_are_in_force(tiny_data: Path, tmp_path: Path, network: str):
    trainer = rtdetr(
        tiny_data, tmp_path, network, class_weights=[1.0, 4.0], focal_gamma=2.0, box=4.0,
        loss_schedule=[{"until": 1, "dfl": 0.5}], val=False,
    )  # fmt: skip
    seen: dict[str, float] = {}

    def look(trainer: Any) -> None:
        loss = trainer.network.criterion
        seen.update({name: loss.gain(name) for name in ("class", "bbox", "giou")}, gamma=loss.read("focal_gamma", 0))
        assert loss.positive_weights.tolist() == [1, 4]

    trainer.add_callback("on_train_batch_end", look)
    trainer.train()
    assert seen == {"class": 1.0, "bbox": 2.5, "giou": 4.0, "gamma": 2.0}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"label_smoothing": 0.1}, "label_smoothing=0.1 would have no effect on RTDETRDetectionModel"),
        ({"nms": True}, "nms=True: RT-DETR gives one box an object"),
        ({"rect": True}, "rect=True: images for RT-DETR are stretched to a square"),
    ],
)
def test_settings_without_a_meaning_are_refused(
    setting: dict[str, Any], words: str, tiny_data: Path, tmp_path: Path, network: str
):
    with pytest.raises(SettingValueError, match=words):
        rtdetr(tiny_data, tmp_path, network, **setting).train()


def test_rect_is_refused_everywhere(tiny_data: Path, tmp_path: Path, network: str):
    model = YOLO(network)
    with pytest.raises(SettingValueError, match="rect=True"):
        model.predict(str(tiny_data.parent / "images" / "val"), rect=True, verbose=False)
    with pytest.raises(SettingValueError, match="rect=True"):
        model.val(data=str(tiny_data), rect=True, imgsz=64, project=str(tmp_path))
    settings = make(tiny_data, tmp_path).args
    with pytest.raises(SettingValueError, match="rect=True"):
        build_dataset(
            settings.copy(rect=True), load_dataset_spec(str(tiny_data)), mode="train", batch_size=2, stretch=True
        )


def test_a_loss_of_ones_own(tiny_data: Path, tmp_path: Path, network: str):
    def halved(preds: Any, batch: Any) -> torch.Tensor:
        return preds["boxes"].mean() / 2  # raw predictions, as docs/models.md lists them

    trainer = rtdetr(
        tiny_data, tmp_path, network, loss=halved, val=False
    )  # the gains that were filled in do not matter
    trainer.add_callback("on_train_batch_end", stop)
    trainer.train()
    assert trainer.loss_names == ("loss",)
    with pytest.raises(SettingValueError, match=r"box=3\.0: a function of"):
        rtdetr(tiny_data, tmp_path, network, loss=halved, box=3.0).train()


# ---------------------------------------------------------------------------------------------------- names


def test_rtdetr_takes_its_family_only(network: str, tiny_model: str):
    assert RTDETR(network).task == "rtdetr"
    assert YOLO(network, task="detect").task == "rtdetr"  # as people call it who know it from elsewhere
    with pytest.raises(
        ModelError, match=r"RTDETR\(.*tiny\.yaml\): this is a model for task=detect, not for task=rtdetr"
    ):
        RTDETR(tiny_model)
    with pytest.raises(ModelError, match="not task=pose"):
        YOLO(network, task="pose")


@pytest.mark.parametrize("words", [["detect"], ["rtdetr"], [], ["task=detect"]])
def test_on_the_command_line(words: list[str], network: str, tiny_data: Path, tmp_path: Path):
    settings = {"model": network, "data": tiny_data, "epochs": 1, "imgsz": 32, "device": "cpu", "val": "false"}
    where = {"project": tmp_path, "name": "cli", "plots": "false", "verbose": "false"}
    assert run([*words, "train", *(f"{name}={value}" for name, value in {**settings, **where}.items())]) == 0
    assert (tmp_path / "cli" / "weights" / "last.pt").exists()


def test_more_objects_than_queries_are_told(
    tiny_data: Path, tmp_path: Path, network: str, caplog: pytest.LogCaptureFixture
):
    model = YOLO(build_model(network, nc=2, names={0: "red", 1: "blue"}))
    model.val(data=str(tiny_data), imgsz=64, plots=False, project=str(tmp_path), max_det=60)
    assert "max_det=60, but the network has 50 queries" in caplog.text


# ---------------------------------------------------------------------------------------------------- it learns

LEARNER = {
    "nc": 80,
    "backbone": [
        [-1, 1, "HGStem", [16, 32]],
        [-1, 2, "HGBlock", [32, 64, 3]],
        [-1, 1, "DWConv", [64, 3, 2, 1, False]],
        [-1, 2, "HGBlock", [32, 128, 3]],
        [-1, 1, "DWConv", [128, 3, 2, 1, False]],
        [-1, 2, "HGBlock", [64, 256, 5, True, False]],
    ],
    "head": [
        [-1, 1, "Conv", [96, 1, 1, None, 1, 1, False]],
        [-1, 1, "AIFI", [192, 4]],
        [-1, 1, "Conv", [96, 1, 1]],
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [3, 1, "Conv", [96, 1, 1, None, 1, 1, False]],
        [[-2, -1], 1, "Concat", [1]],
        [-1, 1, "RepC3", [96]],
        [-1, 1, "Conv", [96, 3, 2]],
        [[-1, 8], 1, "Concat", [1]],
        [-1, 1, "RepC3", [96]],
        [[12, 15], 1, "RTDETRDecoder", ["nc", 128, 50, 4, 8, 2]],
    ],
}


@pytest.mark.slow
def test_it_overfits_four_real_images(tmp_path: Path):
    """With the recipe as it is filled in: two decoder layers, 50 queries, 160 px."""
    root = shared_data("coco-mini")
    names = yaml.safe_load((root / "coco-mini.yaml").read_text())["names"]
    images = [image for image in sorted((root / "images" / "train").iterdir()) if 2 <= objects_of(image) <= 8][:4]
    (tmp_path / "four.txt").write_text("\n".join(map(str, images)))
    (tmp_path / "four.yaml").write_text(
        yaml.safe_dump({"path": str(tmp_path), "train": "four.txt", "val": "four.txt", "names": names})
    )
    (tmp_path / "learner.yaml").write_text(yaml.safe_dump(LEARNER))
    model = RTDETR(str(tmp_path / "learner.yaml"))
    assert model.info(verbose=False)[1] < 5_000_000
    metrics = model.train(
        data=str(tmp_path / "four.yaml"), epochs=250, batch=4, imgsz=160, device="cpu", plots=False, val_interval=50,
        patience=0, scale=0, translate=0, fliplr=0, hsv_h=0, hsv_s=0, hsv_v=0, verbose=False, project=str(tmp_path),
    )  # fmt: skip
    history = model.trainer.history
    total = [
        sum(values) for values in zip(*(history[f"train/{name}"] for name in model.trainer.loss_names), strict=True)
    ]
    assert total[-1] < 0.4 * total[0]
    assert metrics.box.map50 > 0.5


def objects_of(image: Path) -> int:
    labels = Path(str(image.with_suffix(".txt")).replace("/images/", "/labels/"))
    return len(labels.read_text().split("\n")) - 1 if labels.exists() else 0
