"""Each preset begins a run, and what it says is found in the parts that were built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.config.preset import preset_names
from train.test_trainer import Interrupted, make

SMALL = {"imgsz": 64, "batch": 4, "epochs": 30}  # the user's own, which win over those of the preset


def frozen_layers(trainer: Any) -> set[int]:
    return {int(name.split(".")[1]) for name, p in trainer.model.named_parameters() if not p.requires_grad}


def initial_rates(trainer: Any) -> set[float]:
    return {round(group["initial_lr"], 10) for group in trainer.optimizer.param_groups if "lr_factor" not in group}


IN_FORCE: dict[str, Callable[[Any], bool]] = {
    "small-data": lambda t: (
        frozen_layers(t) == set(range(15)) - {11, 12, 14}  # without parameters: Upsample and Concat
        and min(initial_rates(t)) == 0.001
        and t.schedule.warmup == 2 * 10
    ),
    "high-res": lambda t: min(initial_rates(t)) == 0.0015 and t.args.imgsz == 64,
    "many-classes": lambda t: (
        t.model.criterion.one2one.hyp.cls == pytest.approx(0.5 * 0.8) and min(initial_rates(t)) == 0.0025
    ),
    "realtime": lambda t: (
        type(t.optimizer) is torch.optim.AdamW
        and initial_rates(t) == {0.003}
        and t.optimizer.param_groups[0]["weight_decay"] == pytest.approx(0.05)  # at the nominal batch
    ),
    "long-run": lambda t: (
        t.accumulate == 4
        and t.schedule.shape.restarts(600) == [300]
        and t.schedule.shape.factor(300, 600) == 0.5
        and t.model.criterion.one2one.hyp.box == 1.5 * 7.5
        and t.train_loader.dataset.pipeline.mosaic.probability == 0.8
        and t.train_loader.dataset.pipeline.copy_paste.probability == 0.1
        and t.train_loader.dataset.pipeline.affine.degrees == 0
        and t.stopper.patience == 300
    ),
    "fine-tune": lambda t: (
        min(initial_rates(t)) == 0.001
        and t.schedule.shape.lrf == 0.1
        and t.train_loader.dataset.pipeline.mosaic.probability == 0.5
    ),
}


@pytest.mark.parametrize("name", preset_names())
def test_the_start_of_a_run(name: str, tiny_data: Path, tmp_path: Path):
    held: list[bool] = []

    def look(trainer: Any) -> None:
        held.append(IN_FORCE[name](trainer))
        raise Interrupted

    # One freezes fifteen layers, which a tiny network has not.
    larger = {"model": "yolo26n.yaml"} if name == "small-data" else {}
    trainer = make(tiny_data, tmp_path, preset=name, **SMALL, **larger)
    trainer.add_callback("on_train_batch_end", look)
    with pytest.raises(Interrupted):
        trainer.train()
    assert held == [True]
