"""Draws how the learning rate goes under different settings, before anything is trained.

    python examples/plot_schedules.py                         # all schedulers: docs/pictures/schedules.png
    python examples/plot_schedules.py mine.png epochs=300 scheduler=step lr_scale=linear batch=128

It asks the schedule of a run itself, batch by batch, so the picture is what a run does.
"""

from __future__ import annotations

import sys
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from sightline.config.command_line import parse_command_line
from sightline.config.load import make_settings
from sightline.train.schedule import Schedule, lr_scale_of

BATCHES = 20  # an epoch
LONG = {"epochs": 600, "warmup_epochs": 10}
PANELS: list[list[dict[str, Any]]] = [
    [
        *({**LONG, "scheduler": kind} for kind in ("linear", "cosine", "constant", "step")),
        {**LONG, "scheduler": "onecycle", "warmup_epochs": 0},  # comes up by itself
    ],
    [
        {**LONG, "scheduler": "warm_restarts", "restart_epoch": 150},
        {**LONG, "scheduler": "cosine", "restart_epoch": 300, "restart_factor": 0.5},
        {**LONG, "scheduler": "cosine", "restart_epoch": 300, "restart_decay": 0.95, "lr_min": 0.0005},
        {**LONG, "scheduler": "linear", "restart_epoch": [200, 400], "restart_factor": 0.7},
    ],
    [
        {"epochs": 12, "scheduler": "cosine"},
        {"epochs": 12, "scheduler": "cosine", "scheduler_step": "iteration"},
        {"epochs": 12, "scheduler": "cosine", "warmup_steps": 20, "accumulate": 4, "warmup_start_factor": 0.3},
        {"epochs": 12, "scheduler": "cosine", "lr_min": 0.003},
    ],
]


def rates(**settings: Any) -> tuple[list[float], list[float]]:
    """Epoch (with its parts) and learning rate of every batch of a run."""
    made = make_settings("train", settings)
    weight = torch.zeros(1, requires_grad=True)
    schedule = Schedule.from_settings(torch.optim.SGD([weight], lr=made.lr0 * lr_scale_of(made)), made, batches=BATCHES)
    epochs, found = [], []
    for epoch in range(made.epochs):
        schedule.at_epoch_start(epoch)
        for batch in range(BATCHES):
            schedule.at_iteration(epoch * BATCHES + batch, epoch)
            epochs.append(epoch + batch / BATCHES)
            found += schedule.get_last_lr()
    return epochs, found


def draw(panels: list[list[dict[str, Any]]], file: str) -> None:
    figure, axes = plt.subplots(1, len(panels), figsize=(6.2 * len(panels), 4.2), squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        for settings in panel:
            said = {name: value for name, value in settings.items() if name not in LONG}
            axis.plot(*rates(**settings), label="\n  ".join(f"{name}={value}" for name, value in said.items()))
        axis.set_xlabel("epoch")
        axis.set_ylabel("learning rate")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main(words: list[str]) -> None:
    if not words:
        draw(PANELS, "docs/pictures/schedules.png")
        return
    draw([[parse_command_line(["train", *words[1:]]).overrides]], words[0])


if __name__ == "__main__":
    main(sys.argv[1:])
