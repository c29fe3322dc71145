"""The order of the moments of a run, equal to the recorded trace of three epochs of two batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from golden import golden
from sightline.callbacks.base import EVENTS
from sightline.train.detect import DetectionTrainer

SCHEDULE = "training/schedule.npz"
golden.REGISTERED.add(SCHEDULE)

METHODS = {
    "[validate]": "validate",
    "[save_metrics]": "save_metrics",
    "[save_model]": "save_model",
    "[final_eval]": "final_eval",
    "[close_mosaic]": "_close_dataloader_mosaic",
}
# Declared in the reference, but never fired there; and ours.
OURS_ALONE = {"optimizer_step", "on_before_zero_grad", "on_params_update"} | {
    *("on_before_backward", "on_before_optimizer_step", "on_after_optimizer_step"),
}


def test_events_come_in_the_recorded_order(tiny_data: Path, tmp_path: Path):
    recorded = [str(event) for event in np.load(golden.golden_path(SCHEDULE))["events_3epochs_2batches"]]
    trace: list[str] = []

    class Recording(DetectionTrainer):
        def final_eval(self) -> None:
            """The recording left out what happens inside."""

    for label, name in METHODS.items():

        def wrapped(self, *args, _name=name, _label=label, **kwargs):
            trace.append(_label)
            return getattr(super(Recording, self), _name)(*args, **kwargs) if _name != "final_eval" else None

        setattr(Recording, name, wrapped)
    trainer = Recording(
        overrides={
            "model": "yolo26n.yaml", "data": str(tiny_data), "imgsz": 64, "batch": 4, "epochs": 3, "close_mosaic": 2,
            "plots": False, "workers": 0, "verbose": False, "project": str(tmp_path), "device": "cpu", "amp": False,
        }
    )  # fmt: skip
    for event in EVENTS:
        trainer.add_callback(event, lambda _, event=event: trace.append(event))
    trainer.train()
    trace = [event for event in trace if event not in OURS_ALONE and not event.startswith("on_val")]
    assert trace[trace.index("on_pretrain_routine_end") :] == recorded
