"""Settings of the loss, in force in a real run: at its first step, in a subclass, after a resume."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sightline.artifacts.checkpoint import load_checkpoint
from sightline.errors import SettingTypeError, SettingValueError, TrainingError
from sightline.losses.detect import v8DetectionLoss
from sightline.losses.end_to_end import E2ELoss
from sightline.models.network import DetectionModel
from sightline.train.detect import DetectionTrainer
from sightline.train.loss_settings import weights_of

FAST = {
    "imgsz": 64,
    "batch": 4,
    "epochs": 1,
    "workers": 0,
    "plots": False,
    "amp": False,
    "verbose": False,
    "device": "cpu",
    "optimizer": "SGD",
}
NAMES = {0: "red", 1: "blue"}


class Stop(Exception):
    pass


class Rare(DetectionTrainer):
    """The tiny data set has as many of one class as of the other; this trainer counts differently."""

    def get_class_counts(self) -> torch.Tensor:
        return torch.tensor([80, 10])


def make(data: Path, folder: Path, trainer: type = DetectionTrainer, **settings: Any) -> DetectionTrainer:
    overrides = {"model": "yolo26n.yaml", "data": str(data), "project": str(folder), "name": "run", **FAST, **settings}
    return trainer(overrides=overrides)


def first_step(data: Path, folder: Path, trainer: type = DetectionTrainer, **settings: Any) -> DetectionTrainer:
    """The trainer after its first batch."""
    run = make(data, folder, trainer, **settings)

    def stop(_: Any) -> None:
        raise Stop

    run.add_callback("on_train_batch_end", stop)
    with pytest.raises(Stop):
        run.train()
    return run


@pytest.fixture(scope="module")
def plain(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> DetectionTrainer:
    return first_step(tiny_data, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    ("setting", "trainer", "expected", "said"),
    [
        ("auto", Rare, [1.0, 8.0], "objects weigh red 1, blue 8 in the loss"),
        ([2.0, 3.0], DetectionTrainer, [2.0, 3.0], "objects weigh red 2, blue 3 in the loss"),
        ({"blue": 5}, DetectionTrainer, [1.0, 5.0], "objects weigh red 1, blue 5 in the loss"),
    ],
)
def test_class_weights_are_in_force_at_the_first_step(
    plain: DetectionTrainer, tiny_data: Path, tmp_path: Path, setting: Any, trainer: type, expected: list, said: str
):
    run = first_step(tiny_data, tmp_path, trainer, class_weights=setting)
    for branch in (run.model.criterion.one2many, run.model.criterion.one2one):
        assert branch.bce.pos_weight.tolist() == expected
    assert run.ema.ema.positive_weights.tolist() == expected  # the losses of validation are made of it
    assert run.loss_items["cls_loss"] > plain.loss_items["cls_loss"]
    assert run.loss_items["box_loss"] == plain.loss_items["box_loss"]
    assert run.in_force["class_weights"] == said
    assert "class_weights" not in plain.in_force


@pytest.mark.parametrize(("name", "value"), [("focal_gamma", 1.5), ("label_smoothing", 0.2)])
def test_the_others_are_in_force_at_the_first_step(
    plain: DetectionTrainer, tiny_data: Path, tmp_path: Path, name: str, value: float
):
    run = first_step(tiny_data, tmp_path, **{name: value})
    assert getattr(run.model.criterion.one2one.hyp, name) == value
    assert run.loss_items["cls_loss"] != plain.loss_items["cls_loss"]
    assert run.loss_items["box_loss"] == plain.loss_items["box_loss"]
    assert f"{value:g}" in run.in_force[name]


def test_class_weights_that_do_not_fit_the_data_are_refused(tiny_data: Path, tmp_path: Path):
    with pytest.raises(SettingValueError, match=r"'green', which the data does not have. Its classes: red, blue"):
        make(tiny_data, tmp_path, class_weights={"green": 2.0}).train()
    with pytest.raises(SettingValueError, match=r"3 weights, but the data has 2 classes: red, blue"):
        make(tiny_data, tmp_path, class_weights=[1.0, 2.0, 3.0]).train()
    with pytest.raises(SettingValueError, match="names the class 2"):
        weights_of({2: 1.5}, torch.ones(2), NAMES)


def test_weights_of_by_hand():
    counts = torch.tensor([6, 0, 3])
    names = {0: "a", 1: "b", 2: "c"}
    assert weights_of("auto", counts, names).tolist() == [1.0, 1.0, 2.0]
    assert weights_of({"c": 4, 0: 2}, counts, names).tolist() == [2.0, 1.0, 4.0]
    assert weights_of([1.0, 2.0, 3.0], counts, names).tolist() == [1.0, 2.0, 3.0]


def test_a_trainer_that_leaves_the_weights_out_is_told(tiny_data: Path, tmp_path: Path):
    class Forgets(DetectionTrainer):
        def set_class_weights(self) -> None:
            pass

    with pytest.raises(SettingValueError, match=r"class_weights=auto is not in force.*Forgets"):
        make(tiny_data, tmp_path, Forgets, class_weights="auto").train()


def test_a_resumed_run_has_the_same_values(tiny_data: Path, tmp_path: Path):
    settings = {"class_weights": "auto", "focal_gamma": 2.0, "label_smoothing": 0.1, "epochs": 3}
    whole = make(tiny_data, tmp_path / "whole", Rare, **settings)
    whole.train()
    cut = make(tiny_data, tmp_path / "cut", Rare, **settings)

    def stop(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise Stop

    cut.add_callback("on_fit_epoch_end", stop)
    with pytest.raises(Stop):
        cut.train()
    resumed = Rare(overrides={"resume": str(cut.last)})
    resumed.train()
    assert resumed.model.criterion.one2one.bce.pos_weight.tolist() == [1.0, 8.0]
    assert resumed.in_force == whole.in_force
    first, second = (load_checkpoint(run.last)["model"] for run in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)


# ---------------------------------------------------------------------- loss=


class Sharper(v8DetectionLoss):
    """The usual way: one part replaced."""

    def __init__(self, model: Any, tal_topk: int = 10, tal_topk2: int | None = None) -> None:
        super().__init__(model, tal_topk, tal_topk2)
        self.bce = nn.BCEWithLogitsLoss(reduction="none", pos_weight=torch.tensor([1.0, 8.0]))


class Both(E2ELoss):
    pass


def mean_score(preds: Any, batch: Any) -> Any:
    loss = preds["one2one"]["scores"].sigmoid().mean()
    return loss, {"score_loss": loss}


def only_a_tensor(preds: Any, batch: Any) -> torch.Tensor:
    return preds["one2many"]["scores"].square().sum() + preds["one2one"]["boxes"].square().sum()


def test_a_class_is_the_loss_of_both_branches(plain: DetectionTrainer, tiny_data: Path, tmp_path: Path):
    run = first_step(tiny_data, tmp_path, loss=Sharper)
    criterion = run.model.criterion
    assert type(criterion) is E2ELoss
    assert type(criterion.one2many) is type(criterion.one2one) is Sharper
    assert run.loss_items["cls_loss"] > plain.loss_items["cls_loss"]
    assert run.in_force["loss"] == "Sharper is the loss of each branch"
    assert run.loss.ndim == 0  # `trainer.loss` is the value, as ever


def test_a_class_for_both_branches_is_the_criterion(tiny_data: Path, tmp_path: Path):
    run = first_step(tiny_data, tmp_path, loss=Both, class_weights=[1.0, 2.0])
    assert type(run.model.criterion) is Both
    assert run.in_force["class_weights"] == "objects weigh red 1, blue 2 in Both"


def test_a_loss_goes_before_the_one_of_the_model(tiny_data: Path, tmp_path: Path):
    class Mine(DetectionModel):
        def init_criterion(self) -> Any:
            raise AssertionError("loss= was given")

    class MyTrainer(DetectionTrainer):
        def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
            return Mine("yolo26n.yaml", nc=2, names=self.data["names"], verbose=False)

    assert type(first_step(tiny_data, tmp_path, MyTrainer, loss=Both).model.criterion) is Both


def test_a_function_trains_a_whole_run(tiny_data: Path, tmp_path: Path):
    run = make(tiny_data, tmp_path, loss=mean_score, epochs=2)
    run.train()
    rows = list(csv.DictReader((run.save_dir / "results.csv").open()))
    assert float(rows[1]["train/score_loss"]) > 0
    assert float(rows[1]["val/score_loss"]) > 0
    assert run.in_force["loss"] == "mean_score(preds, batch) is the loss"
    assert run.loss_names == ("score_loss",)


def test_a_function_may_return_a_tensor_only(tiny_data: Path, tmp_path: Path):
    run = first_step(tiny_data, tmp_path, loss=only_a_tensor)
    assert run.loss_items["loss"].item() == pytest.approx(run.loss.item())


def test_a_function_that_is_no_loss_says_so(tiny_data: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match=r"loss <lambda> returned None"):
        make(tiny_data, tmp_path, loss=lambda preds, batch: None).train()
    with pytest.raises(TrainingError, match="without a gradient"):
        make(tiny_data, tmp_path, loss=lambda preds, batch: torch.zeros(())).train()
    with pytest.raises(SettingTypeError, match="must be given a, b, c"):
        make(tiny_data, tmp_path, loss=lambda a, b, c: 0).train()


def test_settings_that_a_function_does_not_read_are_refused(tiny_data: Path, tmp_path: Path):
    with pytest.raises(SettingValueError, match=r"box=3.0, focal_gamma=2.0: a function"):
        make(tiny_data, tmp_path, loss=mean_score, box=3.0, focal_gamma=2.0).train()


def interrupted(data: Path, folder: Path, **settings: Any) -> DetectionTrainer:
    run = make(data, folder, epochs=2, **settings)

    def stop(_: Any) -> None:
        raise Stop

    run.add_callback("on_fit_epoch_end", stop)
    with pytest.raises(Stop):
        run.train()
    return run


def brighter(image: Any) -> Any:
    return image


def test_what_a_checkpoint_cannot_hold_must_be_given_again(tiny_data: Path, tmp_path: Path):
    cut = interrupted(tiny_data, tmp_path, loss=Sharper, augmentations=[brighter])
    with pytest.raises(SettingValueError) as caught:
        DetectionTrainer(overrides={"resume": str(cut.last)})
    for part in ("augmentations=[brighter]", "loss=Sharper", "Give it again", "loss=None"):
        assert part in str(caught.value)
    with pytest.raises(SettingValueError, match=r"was started with loss=Sharper, which"):
        DetectionTrainer(overrides={"resume": str(cut.last), "augmentations": [brighter]})
    again = DetectionTrainer(overrides={"resume": str(cut.last), "augmentations": [brighter], "loss": Sharper})
    again.train()
    assert type(again.model.criterion.one2one) is Sharper
    assert again.model.criterion.updates == 2  # went on, instead of starting over


def test_one_may_go_on_without_it_by_saying_so(tiny_data: Path, tmp_path: Path):
    cut = interrupted(tiny_data, tmp_path, loss=Sharper)
    without = DetectionTrainer(overrides={"resume": str(cut.last), "loss": None})
    without.train()
    assert type(without.model.criterion.one2one) is v8DetectionLoss
