"""Learning rate, momentum, accumulation and steps of every iteration, against traces of the real loop."""

from __future__ import annotations

import ast

import numpy as np
import pytest
from torch import nn

from golden import golden
from sightline.train.lr_shapes import LrShape, cosine_factor
from sightline.train.optim import build_optimizer, choose_automatic
from sightline.train.schedule import (
    Schedule,
    accumulation_target,
    scaled_weight_decay,
    warmup_iterations,
)

EXACT = {"rtol": 1e-9, "atol": 1e-12}


class Toy(nn.Module):
    """A network with one parameter of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)])


def traces() -> list:
    cases = []
    for parameter in golden.golden_files("training/schedule.npz"):
        (path,) = parameter.values
        if path is None:
            return [pytest.param(None, None, marks=parameter.marks, id="absent")]
        names = [key.removesuffix(".config") for key in np.load(path).files if key.endswith(".config")]
        assert names
        cases += [pytest.param(path, name, id=f"{path.stem}-{name}") for name in names]
    return cases


@pytest.mark.parametrize(("path", "case"), traces())
def test_trace(path, case):
    data = np.load(path)
    config = {"warmup_epochs": 3.0, **ast.literal_eval(str(data[f"{case}.config"]))}
    groups = [str(text).split("|") for text in data[f"{case}.groups"]]
    epochs, batches = config["epochs"], config["nb"]
    name, lr, momentum, bias_lr = config["optimizer"], config["lr0"], config["momentum"], config["warmup_bias_lr"]
    if name == "auto":
        nc = round(0.01 / float(groups[0][1]) - 4)  # not recorded, but the rate tells it
        name, lr, momentum, bias_lr = choose_automatic(batches * epochs, nc)
    decay = scaled_weight_decay(config["weight_decay"], config["batch"], config["nbs"])
    np.testing.assert_allclose(decay, data[f"{case}.scaled_weight_decay64"], **EXACT)
    optimizer = build_optimizer(Toy(), name, lr=lr, momentum=momentum, decay=decay)
    schedule = Schedule(
        optimizer,
        epochs=epochs,
        batches=batches,
        accumulate=accumulation_target(config["batch"], config["nbs"]),
        shape=LrShape("cosine" if config["cos_lr"] else "linear", lrf=config["lrf"]),
        momentum=config["momentum"],
        warmup_epochs=config["warmup_epochs"],
        warmup_momentum=config["warmup_momentum"],
        warmup_bias_lr=bias_lr,
    )
    for group, (kind, initial, text) in zip(optimizer.param_groups, groups, strict=True):
        assert group["param_group"] == kind
        np.testing.assert_allclose(group["initial_lr"], float(initial), **EXACT)
        np.testing.assert_allclose(group["weight_decay"], float(text.removeprefix("wd=")), **EXACT)

    rows = {key: [] for key in ("lr64", "momentum64", "accumulate", "optimizer_step", "ema_updates")}
    last_step, updates = -1, 0
    for epoch in range(epochs):
        schedule.at_epoch_start(epoch)
        for iteration in range(epoch * batches, (epoch + 1) * batches):
            accumulate = schedule.at_iteration(iteration, epoch)
            steps = iteration - last_step >= accumulate
            if steps:
                last_step, updates = iteration, updates + 1
            rows["lr64"].append([group["lr"] for group in optimizer.param_groups])
            rows["momentum64"].append([group.get("momentum", -1.0) for group in optimizer.param_groups])
            rows["accumulate"].append(accumulate)
            rows["optimizer_step"].append(steps)
            rows["ema_updates"].append(updates)
    for key, values in rows.items():
        np.testing.assert_allclose(np.array(values, dtype=float), data[f"{case}.{key}"], **EXACT, err_msg=key)


@pytest.mark.parametrize("path", golden.golden_files("training/misc.npz"))
def test_warmup_iterations(path):
    rows = np.load(path)["warmup_iterations_epochs_warm_nb_nw64"]
    assert len(rows)
    for epochs, warmup_epochs, batches, recorded in rows:
        assert warmup_iterations(int(epochs), warmup_epochs, int(batches)) == recorded


@pytest.mark.parametrize("path", golden.golden_files("training/ema.npz"))
def test_cosine_factor(path):
    data = np.load(path)
    keys = [key for key in data.files if key.startswith("one_cycle_")]
    assert keys
    for key in keys:
        start, lrf, epochs = key.removeprefix("one_cycle_").removesuffix("_64").split("_")
        assert start == "1"
        lrf = float(f"{lrf[0]}.{lrf[1:]}")  # "001" stands for 0.01
        ours = [cosine_factor(epoch, int(epochs), lrf) for epoch in range(len(data[key]))]
        np.testing.assert_allclose(ours, data[key], **EXACT)
