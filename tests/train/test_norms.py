"""The settings `norm` and `sync_bn` on a network that trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sightline.config.settings import Settings
from sightline.errors import ModelError, SettingValueError
from sightline.facade import YOLO
from sightline.models.build import build_from_state, build_model
from sightline.nn.sync_batch_norm import SyncBatchNorm
from sightline.train import norms
from sightline.train.detect import DetectionTrainer
from train.test_trainer import FAST, make

CPU = torch.device("cpu")


def count(model: nn.Module, kind: type) -> int:
    return sum(type(module) is kind for module in model.modules())


@pytest.mark.parametrize(
    ("settings", "world_size", "images", "line"),
    [
        ({}, 1, 16, None),
        ({}, 2, 16, "on: 114 BatchNorm layers normalise with the images of all 2 ranks"),
        ({}, 2, 17, None),
        ({"sync_bn": "auto"}, 2, 17, "off: 17 images a rank are enough (auto: up to 16)"),
        ({"sync_bn": True}, 2, 64, "on: 114 BatchNorm layers normalise with the images of all 2 ranks"),
        ({"sync_bn": False}, 2, 4, "off: each rank normalises with its own images"),
        ({"sync_bn": True}, 1, 4, "off: one process has all images of a batch"),
    ],
)
def test_when_batch_norm_is_synchronised(settings: dict[str, Any], world_size: int, images: int, line: str | None):
    model = build_model("yolo26n.yaml", nc=2)
    names = list(model.state_dict())
    checked = Settings().copy(**settings)
    lines = norms.prepare(model, checked, world_size=world_size, images_per_rank=images, device=CPU)
    assert lines.get("sync_bn") == line
    synchronised = line is not None and line.startswith("on")
    assert count(model, SyncBatchNorm) == (114 if synchronised else 0)
    assert list(model.state_dict()) == names


def test_torchs_sync_batch_norm_of_a_user_trains_on_a_cpu(tiny_data: Path, tmp_path: Path):
    class Synchronised(DetectionTrainer):
        def set_model_attributes(self) -> None:
            super().set_model_attributes()
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)

    trainer = make(tiny_data, tmp_path, Synchronised, model="yolo26n.yaml", epochs=1)
    trainer.train()
    assert count(trainer.model, nn.SyncBatchNorm) == 0
    assert count(trainer.model, SyncBatchNorm) == 114
    assert "114 layers were made nn.SyncBatchNorm by your code" in trainer.in_force["sync_bn"]
    assert YOLO(str(trainer.best)).predict(torch.zeros(1, 3, 64, 64), imgsz=64, verbose=False)


def test_group_norm_is_in_force_and_the_checkpoint_knows_it(tiny_data: Path, tmp_path: Path):
    seen = []
    trainer = make(tiny_data, tmp_path, model="yolo26n.yaml", epochs=2, norm="gn")
    trainer.add_callback("optimizer_step", lambda t: seen.append(count(t.model, nn.GroupNorm)))
    trainer.train()
    assert seen[0] == 114
    assert count(trainer.model, nn.BatchNorm2d) == 0
    assert trainer.in_force["norm"] == "GroupNorm in the place of 114 BatchNorm layers"
    kinds = {group["param_group"]: group for group in trainer.optimizer.param_groups}
    assert trainer.model.model[0].bn.weight in set(kinds["bn"]["params"])  # no decay on it
    model = YOLO(str(trainer.best))
    assert count(model.model, nn.GroupNorm) == 114
    image = torch.rand(1, 3, 64, 64)
    expected = model.model.eval()(image)[0]
    model.model.use_end2end(True)
    rows = model.model(image)[0]
    model.val(data=str(tiny_data), imgsz=64, plots=False, workers=0, device="cpu", verbose=False)
    model.model.use_end2end(False)
    torch.testing.assert_close(model.model(image)[0], expected)
    model.model.use_end2end(True)
    model.fuse()
    assert model.model.is_fused()
    torch.testing.assert_close(model.model(image)[0], rows)
    model.save(tmp_path / "folded.pt")
    torch.testing.assert_close(YOLO(tmp_path / "folded.pt").model(image)[0], rows)
    # and as a start for other classes, without saying norm again
    again = make(tiny_data, tmp_path / "again", model=str(trainer.best), epochs=1, single_cls=True)
    again.train()
    assert count(again.model, nn.GroupNorm) == 114
    with pytest.raises(SettingValueError, match="norm=bn, but 114 layers"):
        make(tiny_data, tmp_path / "back", model=str(trainer.best), norm="bn").train()


def test_a_run_with_group_norm_goes_on_with_it(tiny_data: Path, tmp_path: Path):
    make(tiny_data, tmp_path, model="yolo26n.yaml", epochs=1, norm="gn").train()
    last = tmp_path / "run" / "weights" / "last.pt"
    with pytest.raises(SettingValueError, match="norm=bn cannot change"):
        DetectionTrainer(overrides={"resume": str(last), "epochs": 2, "norm": "bn"})
    resumed = DetectionTrainer(overrides={"resume": str(last), "epochs": 2})
    resumed.train()
    assert count(resumed.model, nn.GroupNorm) == 114


def test_weights_with_batch_norm_start_a_network_with_group_norm(tiny_data: Path, tmp_path: Path):
    source = YOLO("yolo26n.yaml")
    nn.init.constant_(source.model.model[0].bn.weight, 7.0)
    seen = []
    source.add_callback("on_train_start", lambda trainer: seen.append(trainer.model.model[0].bn.weight.clone()))
    source.train(data=str(tiny_data), project=str(tmp_path), **{**FAST, "epochs": 1}, norm="gn")
    assert torch.equal(seen[0], torch.full((16,), 7.0))


def test_a_description_may_ask_for_group_norm():
    data = {**build_model("yolo26n.yaml", nc=3).yaml, "norm": "gn"}
    model = build_model(data)
    assert count(model, nn.BatchNorm2d) == 0
    assert model.yaml["norm"] == "gn"
    twin = build_from_state(model.yaml, state=model.state_dict())
    assert count(twin, nn.GroupNorm) == 114
    wide = build_model("yolo26n.yaml", nc=90)  # class branches of another width
    model.load(wide, verbose=False)
    assert count(model, nn.BatchNorm2d) == 0
    with pytest.raises(ModelError, match="norm is 'layer'; it must be bn or gn"):
        build_model({**data, "norm": "layer"})


def test_what_does_not_fit_together(tiny_data: Path, tmp_path: Path):
    with pytest.raises(SettingValueError, match="sync_bn=True synchronises BatchNorm, but norm=gn"):
        make(tiny_data, tmp_path, sync_bn=True, norm="gn")
    with pytest.raises(SettingValueError, match="not made from a description"):
        norms.prepare(nn.BatchNorm2d(3), Settings().copy(norm="gn"), world_size=1, images_per_rank=1, device=CPU)
