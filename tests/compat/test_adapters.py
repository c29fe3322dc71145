"""Functions under old names: argument orders and defaults as scripts use them, results worked by hand or from torch."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sightline import compat
from sightline.compat import process
from sightline.compat.adapters import anchors, boxes, data, files, networks, overlaps, settings
from sightline.compat.console import colorstr
from sightline.errors import SettingValueError, UnknownSettingError
from sightline.train.detect import DetectionTrainer


def test_pairs_and_rows_of_boxes():
    first, second = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 1, 3, 3], [0, 0, 2, 2]])
    assert overlaps.box_iou(first, second).tolist() == [[pytest.approx(1 / 7), pytest.approx(1)]]
    corners = overlaps.bbox_iou(first, second, xywh=False)
    assert corners.shape == (2, 1)
    assert corners.flatten().tolist() == [pytest.approx(1 / 7), pytest.approx(1)]
    centres = overlaps.bbox_iou(torch.tensor([[1.0, 1, 2, 2]]), torch.tensor([[2.0, 2, 2, 2]]))  # the same first pair
    assert centres.item() == pytest.approx(1 / 7)
    # The enclosing square is 3 by 3, of which 2 are empty.
    assert overlaps.bbox_iou(first, second[:1], xywh=False, GIoU=True).item() == pytest.approx(1 / 7 - 2 / 9)
    # Centres are √2 apart, the diagonal is √18 long; the proportions are alike.
    for kind in ("DIoU", "CIoU"):
        value = overlaps.bbox_iou(first, second[:1], xywh=False, **{kind: True}).item()
        assert value == pytest.approx(1 / 7 - 2 / 18, abs=1e-6)
    with pytest.raises(ValueError, match="eps"):
        overlaps.bbox_iou(first, second, eps=1e-9)


def test_rotated_boxes():
    one = torch.tensor([[5.0, 5, 4, 2, 0.3]])
    assert overlaps.probiou(one, one).shape == (1, 1)
    assert overlaps.batch_probiou(one, torch.cat([one, one + 1])).shape == (1, 2)
    assert overlaps.probiou(one, one).item() > 0.99


def test_average_precision_unpacks_into_twelve():
    tp = np.ones((2, 10), dtype=bool)
    *_, ap, classes, p_curve, r_curve, f1_curve, x, values = overlaps.ap_per_class(
        tp, np.array([0.9, 0.8]), np.zeros(2), np.zeros(2)
    )
    assert ap == pytest.approx(0.995)
    assert classes.tolist() == [0]
    assert p_curve.shape == r_curve.shape == f1_curve.shape == values.shape == (1, len(x))
    with pytest.raises(ValueError, match="plot_pr_curve"):
        overlaps.ap_per_class(tp, np.zeros(2), np.zeros(2), np.zeros(2), plot=True)


def test_normalised_boxes_take_width_first():
    assert boxes.xywhn2xyxy(np.array([[0.5, 0.5, 0.5, 1.0]]), 100, 200, 10, 20).tolist() == [[35, 20, 85, 220]]
    assert boxes.xyxy2xywhn(np.array([[25.0, 0, 75, 200]]), w=100, h=200).tolist() == [[0.5, 0.5, 0.5, 1.0]]
    assert boxes.xyxy2xywhn(np.array([[-50.0, 0, 50, 200]]), 100, 200, clip=True).tolist() == [[0.25, 0.5, 0.5, 1.0]]


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_scaling_and_clipping_write_into_their_argument(make):
    found = make([[10.0, 30.0, 90.0, 60.0, 0.9, 1.0]])
    # A 100 × 50 picture in a 100 × 100 letterbox, 25 pixels of border above; (h, w, channels) is what `shape` gives.
    scaled = boxes.scale_boxes((100, 100), found[:, :4], (50, 100, 3))
    assert scaled.tolist() == found[:, :4].tolist() == [[10, 5, 90, 35]]
    assert found[:, 4:].tolist() == [[pytest.approx(0.9), 1.0]]
    assert boxes.clip_boxes(found, (20, 50, 3)) is found
    assert found[:, :4].tolist() == [[10, 5, 50, 20]]
    points = make([[[10.0, 30.0]]])
    assert boxes.scale_coords((100, 100), points, (50, 100)).tolist() == [[[10, 5]]]


def test_suppression():
    # Two classes, four anchors: two boxes on each other, one apart, one unsure.
    columns = torch.tensor(
        [[10.0, 10, 8, 8, 0.9, 0.1], [11, 10, 8, 8, 0.8, 0.1], [50, 50, 8, 8, 0.1, 0.7], [80, 80, 8, 8, 0.1, 0.2]]
    )
    rows = boxes.non_max_suppression((columns.t()[None], "raw"), 0.25, 0.45)[0]
    assert rows[:, 4:].tolist() == [[pytest.approx(0.9), 0], [pytest.approx(0.7), 1]]
    assert rows[0, :4].tolist() == [6, 6, 14, 14]
    assert len(boxes.non_max_suppression(columns.t()[None], classes=[1])[0]) == 1
    extra = torch.cat([columns, torch.ones(4, 1)], dim=1).t()[None]  # a column behind the classes
    assert boxes.non_max_suppression(extra, nc=2)[0].shape == (2, 7)
    ready = torch.tensor([[[0.0, 0, 1, 1, 0.9, 3], [0, 0, 1, 1, 0.1, 4]]])
    assert boxes.non_max_suppression(ready)[0].tolist() == [[0, 0, 1, 1, pytest.approx(0.9), 3]]
    for wrong in ({"labels": [1]}, {"rotated": True}):
        with pytest.raises(ValueError, match="not in sightline"):
            boxes.non_max_suppression(ready, **wrong)


def test_anchor_points_of_maps_and_boxes_from_distances():
    points, strides = anchors.make_anchors([torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 1)], torch.tensor([8, 16.0]))
    assert points.tolist() == [[0.5, 0.5], [1.5, 0.5], [0.5, 0.5]]
    assert strides.flatten().tolist() == [8, 8, 16]
    assert anchors.make_anchors([torch.zeros(1, 3, 1, 1)], [8], 0.0)[0].tolist() == [[0, 0]]
    distance, point = torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([[10.0, 10]])
    assert anchors.dist2bbox(distance, point, xywh=False).tolist() == [[9, 8, 13, 14]]
    assert anchors.dist2bbox(distance, point).tolist() == [[11, 11, 4, 6]]
    along = anchors.dist2bbox(distance.t()[None], point.t()[None], xywh=False, dim=1)
    assert along.tolist() == [[[9], [8], [13], [14]]]


def test_networks_devices_and_seeds():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    assert networks.get_num_params(model) == 2 * 3 + 3 + 3 + 1
    assert not networks.is_parallel(model)
    assert networks.is_parallel(nn.DataParallel(model))
    state = model.state_dict()
    other = {**state, "1.bias": torch.zeros(7), "2.bias": torch.zeros(1)}
    assert set(networks.intersect_dicts(other, state)) == {"0.weight", "0.bias", "1.weight"}
    assert set(networks.intersect_dicts(other, state, exclude=["bias"])) == {"0.weight", "1.weight"}
    assert networks.select_device("cpu", verbose=False) == torch.device("cpu")
    assert networks.select_device(torch.device("meta")) == torch.device("meta")
    networks.init_seeds(3)
    first = torch.rand(1)
    networks.init_seeds(3)
    assert torch.equal(first, torch.rand(1))


def test_settings():
    assert settings.DEFAULT_CFG.epochs == 100
    assert settings.DEFAULT_CFG_DICT["lr0"] == 0.01
    changed = settings.get_cfg(settings.DEFAULT_CFG, {"epochs": 3})
    assert (changed.epochs, settings.DEFAULT_CFG.epochs) == (3, 100)
    assert settings.get_cfg(overrides={"lr0": 0.1}).lr0 == 0.1
    assert settings.get_cfg(settings.DEFAULT_CFG_DICT).epochs == 100
    with pytest.raises(UnknownSettingError, match="epochs"):
        settings.get_cfg(overrides={"epoch": 3})


def test_data_sets_and_loaders_of_a_script(tiny_data: Path):
    spec = data.check_det_dataset(str(tiny_data))
    assert (spec["nc"], spec["names"]) == (2, {0: "red", 1: "blue"})
    cfg = settings.get_cfg(overrides={"imgsz": 64, "fraction": 0.5, "seed": 5})
    train = data.build_yolo_dataset(cfg, spec["train"], 4, spec, mode="train", stride=32)
    assert (len(train), train.rect, train.seed) == (4, None, 5)  # half of them, as `fraction` says
    val = data.build_yolo_dataset(cfg, spec["val"], 4, spec, mode="val", rect=True)
    assert val.rect is not None
    assert data.build_yolo_dataset(cfg, spec["val"], 4, spec, mode="val").rect is None
    loader = data.build_dataloader(train, 2, 0, shuffle=False, rank=-1)
    batches = list(loader)
    assert [len(batch["img"]) for batch in batches] == [2, 2]
    assert batches[0]["img"].dtype == torch.uint8
    with pytest.raises(SettingValueError, match="multi_modal"):
        data.build_yolo_dataset(cfg, spec["val"], 4, spec, multi_modal=True)


def test_a_trainer_may_make_its_loaders_with_them(tiny_data: Path, tmp_path: Path):
    class Mine(DetectionTrainer):
        def build_dataset(self, img_path, mode="train", batch=None):
            return data.build_yolo_dataset(self.args, img_path, batch, self.data, mode=mode, rect=mode == "val")

        def get_dataloader(self, dataset_path, batch_size=16, rank=0, mode="train"):
            dataset = self.build_dataset(dataset_path, mode, batch_size)
            return data.build_dataloader(dataset, batch_size, self.args.workers, mode == "train", rank)

    trainer = Mine(
        settings.DEFAULT_CFG,
        {
            "model": "yolo26n.yaml", "data": str(tiny_data), "epochs": 1, "imgsz": 64, "batch": 4, "plots": False,
            "device": "cpu", "project": str(tmp_path), "verbose": False,
        },
    )  # fmt: skip
    trainer.train()
    assert trainer.best.is_file()
    assert settings.DEFAULT_CFG.epochs == 100  # the defaults are still the defaults


def test_folders_are_numbered(tmp_path: Path):
    assert files.increment_path(tmp_path / "a", mkdir=True) == tmp_path / "a"
    assert files.increment_path(tmp_path / "a", mkdir=True) == tmp_path / "a-2"
    assert files.increment_path(tmp_path / "a", exist_ok=True) == tmp_path / "a"


def test_results_are_drawn_beside_the_table(tmp_path: Path):
    (tmp_path / "results.csv").write_text("epoch,time,train/box_loss\n1,1.0,2.0\n2,2.0,1.0\n")
    files.plot_results(tmp_path / "results.csv")
    assert (tmp_path / "results.png").is_file()
    (tmp_path / "results.png").unlink()
    files.plot_results(dir=tmp_path)
    assert (tmp_path / "results.png").is_file()


def test_colours():
    assert colorstr("red", "bold", "stop") == "\033[31m\033[1mstop\033[0m"
    assert colorstr("note: ") == "\033[34m\033[1mnote: \033[0m"
    assert colorstr("bright_cyan", 5) == "\033[96m5\033[0m"
    with pytest.raises(SettingValueError, match="no colour 'rde'"):
        colorstr("rde", "stop")


def test_a_rank_is_a_number_and_that_of_each_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RANK", raising=False)
    here = process.Rank("RANK")
    assert here == -1
    assert here in {-1, 0}
    assert f"{here}" == "-1"
    carried = pickle.dumps(here)
    monkeypatch.setenv("RANK", "3")
    assert pickle.loads(carried) == 3  # in the process that it was carried to


def test_compat_is_an_attribute_of_the_package():
    import sightline

    assert sightline.compat is compat
