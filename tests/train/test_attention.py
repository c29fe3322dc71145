"""`attention_kernel` from the first step to the last validation, and what the start of a run says of it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from backends.test_attention_kernel import Kernels, flags
from sightline.config.settings import Settings
from sightline.doctor.settings import examine
from sightline.errors import SettingValueError
from sightline.facade import YOLO
from train.test_trainer import make


def test_it_holds_in_training_and_every_validation(tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "sightline")
    before = flags()
    moments: dict[str, set[tuple[bool, ...]]] = {}
    trainer = make(tiny_data, tmp_path, model="yolo12n.yaml", epochs=1, attention_kernel="math")
    for event in ("on_train_batch_start", "on_val_batch_start", "on_fit_epoch_end"):
        trainer.add_callback(event, lambda _, event=event: moments.setdefault(event, set()).add(flags()))
    with Kernels() as kernels:
        trainer.train()
    assert kernels.seen == {"math": 8 * 4}  # two steps, the validation of the epoch, and the last one
    assert set(moments) == {"on_train_batch_start", "on_val_batch_start", "on_fit_epoch_end"}
    assert all(seen == {(False, False, True)} for seen in moments.values())
    assert flags() == before
    assert trainer.in_force["attention_kernel"] == "math computes 8 attention layers"
    assert "  attention_kernel: math computes 8 attention layers" in caplog.text


def test_set_by_a_callback_before_the_network_is_there(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, model="yolo12n.yaml", epochs=1, val=False)
    seen = []
    trainer.add_callback("on_pretrain_routine_start", lambda t: setattr(t, "attention_kernel", "math"))
    trainer.add_callback("on_train_batch_start", lambda _: seen.append(flags()))
    trainer.train()
    assert set(seen) == {(False, False, True)}
    assert trainer.in_force["attention_kernel"].startswith("math")


def test_doctor_settings_leaves_the_switches_alone(tiny_data: Path, tmp_path: Path):
    before = flags()
    given = {"model": "yolo12n.yaml", "data": str(tiny_data), "imgsz": 64, "batch": 4, "device": "cpu"}
    assert examine(Settings(**given, attention_kernel="math")).plan.batch == 4
    assert flags() == before
    with pytest.raises(SettingValueError, match="attention_kernel=efficient"):
        examine(Settings(**given, attention_kernel="efficient"))
    assert flags() == before


def test_validation_and_prediction_take_it(tiny_data: Path, tmp_path: Path):
    model = YOLO("yolo12n.yaml")
    image = torch.zeros(1, 3, 64, 64)
    for kernel in ("math", "flash"):  # the second must not use the copy that was made for the first
        with Kernels() as kernels:
            model.predict(image, imgsz=64, verbose=False, attention_kernel=kernel, device="cpu")
        assert kernels.seen == {kernel: 8}
    trained = make(tiny_data, tmp_path, model="yolo12n.yaml", epochs=1)
    trained.train()
    with Kernels() as kernels:
        YOLO(trained.best).val(
            data=str(tiny_data), imgsz=64, attention_kernel="math", device="cpu", plots=False, project=str(tmp_path)
        )
    assert kernels.seen == {"math": 8}


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("yolo12n.yaml", "auto: torch chooses for 8 attention layers; usable here: flash, math"),
        ("yolo26n.yaml", "auto: torch chooses for 2 attention layers; usable here: math"),
        ("tiny", None),
    ],
)
def test_auto_says_what_there_is(tiny_data: Path, tmp_path: Path, tiny_model: str, model: str, line: str | None):
    trainer = make(tiny_data, tmp_path, model=tiny_model if model == "tiny" else model, epochs=1, val=False)
    trainer.add_callback("on_train_start", lambda t: setattr(t, "stop", True))
    trainer.add_callback("on_train_batch_end", lambda t: setattr(t, "stop_training", True))
    trainer.train()
    assert trainer.in_force.get("attention_kernel") == line


def test_a_kernel_that_is_not_there_stops_the_run_before_it_leaves_anything(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path / "runs", model="yolo12n.yaml", attention_kernel="efficient")
    with pytest.raises(SettingValueError, match=r"attention_kernel=efficient cannot compute .* on cpu") as caught:
        trainer.train()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()
