"""Validation with nothing in place of the real parts: real images, loader, network, files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from golden.golden import shared_data
from sightline.config.load import make_settings
from sightline.errors import MissingFileError, SettingValueError, UsageError
from sightline.models.build import build_model
from sightline.validate.detect import DetectionValidator

NAMES = {0: "RBC", 1: "WBC", 2: "Platelets"}


@pytest.fixture(scope="module")
def small_bccd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five validation images of bccd with their labels and annotations; returns the YAML file."""
    source, root = shared_data("bccd"), tmp_path_factory.mktemp("bccd")
    for image in sorted((source / "images" / "val").iterdir())[:5]:
        for kind, suffix in (("images", ".jpg"), ("labels", ".txt")):
            (root / kind / "val").mkdir(parents=True, exist_ok=True)
            shutil.copy(source / kind / "val" / f"{image.stem}{suffix}", root / kind / "val")
    (root / "annotations").mkdir()
    shutil.copy(source / "annotations" / "val.json", root / "annotations")
    (root / "data.yaml").write_text(
        yaml.safe_dump({"path": ".", "train": "images/val", "val": "images/val", "names": NAMES})
    )
    return root / "data.yaml"


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model("yolo26n.yaml", names=NAMES)


def run(network: torch.nn.Module, data: Path, folder: Path, **settings: object) -> DetectionValidator:
    given = {
        "data": str(data),
        "imgsz": 64,
        "batch": 2,
        "workers": 0,
        "device": "cpu",
        "project": str(folder),
        **settings,
    }
    validator = DetectionValidator(args=make_settings("val", given))
    validator(model=network)
    return validator


def test_everything_a_validation_leaves(network: torch.nn.Module, small_bccd: Path, tmp_path: Path):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    validator = run(network, small_bccd, tmp_path, save_json=True, coco_eval=True, save_txt=True, conf=0.0)
    assert validator.save_dir == tmp_path / "val"
    written = {path.relative_to(validator.save_dir).as_posix() for path in validator.save_dir.rglob("*.*")}
    curves = {f"Box{name}_curve.png" for name in ("PR", "F1", "P", "R")}
    batches = {f"val_batch{i}_{kind}.jpg" for i in range(3) for kind in ("labels", "pred")}
    matrices = {"confusion_matrix.png", "confusion_matrix_normalized.png"}
    assert curves | batches | matrices | {"predictions.json"} <= written
    assert len([name for name in written if name.startswith("labels/")]) == 5
    assert validator.seen == 5
    assert len(validator.metrics.box.image_metrics) == 5
    assert list(validator.metrics.coco) == [
        "AP",
        "AP50",
        "AP75",
        "APs",
        "APm",
        "APl",
        "AR1",
        "AR10",
        "AR100",
        "ARs",
        "ARm",
        "ARl",
    ]
    assert network.training
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert network.model[-1].end2end is False


def test_the_same_whatever_the_batch_size_when_images_are_of_one_shape(
    network: torch.nn.Module, small_bccd: Path, tmp_path: Path
):
    results = []
    for batch in (1, 5):
        validator = run(network, small_bccd, tmp_path, batch=batch, plots=False, conf=0.0, nms=True)
        results.append(validator.metrics.state_dict())
    one, five = results
    assert one["predictions"].tolist() == five["predictions"].tolist()
    torch.testing.assert_close(torch.from_numpy(one["conf"]), torch.from_numpy(five["conf"]), atol=1e-5, rtol=1e-4)


def test_a_saved_model_gives_the_same(network: torch.nn.Module, small_bccd: Path, tmp_path: Path):
    from sightline.artifacts.checkpoint import save_checkpoint

    state = {
        "format": "sightline",
        "version": "0",
        "task": "detect",
        "yaml": network.yaml,
        "names": NAMES,
        "nc": 3,
        "stride": network.stride,
        "model": network.state_dict(),
        "args": {},
        "epoch": -1,
    }
    save_checkpoint(tmp_path / "best.pt", state)
    stats = [
        run(model, small_bccd, tmp_path, plots=False, conf=0.0).metrics.results_dict
        for model in (network, tmp_path / "best.pt")
    ]
    assert stats[0] == pytest.approx(stats[1], abs=1e-6)


def test_requests_that_cannot_be_met(network: torch.nn.Module, small_bccd: Path, tmp_path: Path):
    with pytest.raises(MissingFileError, match="split=test"):
        run(network, small_bccd, tmp_path, split="test")
    with pytest.raises(SettingValueError, match="batch=-1"):
        run(network, small_bccd, tmp_path, batch=-1)
    with pytest.raises(UsageError, match="needs a data set"):
        DetectionValidator(args={"device": "cpu"})(model=network)
    assert not list(tmp_path.iterdir())
