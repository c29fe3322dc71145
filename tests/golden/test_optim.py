"""MuSGD, SGD and AdamW against recorded steps; parameter groups and the automatic choice against recorded tables."""

from __future__ import annotations

import ast
from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import nn

from golden import golden
from sightline.train.optim import MuSGD, build_optimizer, choose_automatic, newton_schulz

# The recordings were made on another processor, whose bfloat16 products may round differently (README of the folder).
PARAMETERS, ORTHOGONAL = 2e-4, 2e-2


def error(ours: torch.Tensor, recorded: np.ndarray) -> float:
    return float(np.abs(ours.detach().float().numpy() - recorded).max() / np.abs(recorded).max())


@pytest.mark.parametrize("path", golden.golden_files("training/musgd.npz"))
def test_musgd_steps(path):
    data = np.load(path)
    muon_lrs = data["muon_groups_lr64"]
    options = [
        *({"lr": float(lr), "use_muon": True, "weight_decay": float(data["weight_decay64"])} for lr in muon_lrs),
        {"lr": float(data["bn_lr64"])},
        {"lr": float(data["bias_lr64"])},
    ]
    group_of = dict(text.split(":") for text in data["group_of"])
    parameters = {name: nn.Parameter(torch.from_numpy(data[f"p0.{name}"]).clone()) for name in group_of}
    groups = [
        {**option, "params": [parameters[name] for name in group_of if int(group_of[name]) == index]}
        for index, option in enumerate(options)
    ]
    optimizer = MuSGD(
        groups,
        momentum=float(data["momentum"]),
        nesterov=bool(data["nesterov"]),
        muon=float(data["muon"]),
        sgd=float(data["sgd"]),
    )
    for step in range(len(data[f"grad.{next(iter(group_of))}"])):
        for name, parameter in parameters.items():
            parameter.grad = torch.from_numpy(data[f"grad.{name}"][step]).clone()
        optimizer.step()
        for name, parameter in parameters.items():
            assert error(parameter, data[f"p_after.{name}"][step]) < PARAMETERS, (name, step)
    for name, parameter in parameters.items():
        recorded = {key.rpartition(".")[2] for key in data.files if key.startswith(f"state_final.{name}.")}
        assert set(optimizer.state[parameter]) == recorded
        for key in recorded:
            assert error(optimizer.state[parameter][key], data[f"state_final.{name}.{key}"]) < 1e-5, (name, key)


@pytest.mark.parametrize("path", golden.golden_files("training/musgd.npz"))
def test_newton_schulz(path):
    data = np.load(path)
    names = [key.partition(".")[2] for key in data.files if key.startswith("ns_input.")]
    assert names
    for name in names:
        ours = newton_schulz(torch.from_numpy(data[f"ns_input.{name}"]))
        assert error(ours, data[f"ns_output.{name}"]) < ORTHOGONAL, name


@pytest.mark.parametrize("path", golden.golden_files("training/musgd.npz"))
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_plain_optimizers(path, name):
    data = np.load(path)
    settings = {"SGD": {"lr": 0.01, "momentum": 0.9}, "AdamW": {"lr": 0.001, "momentum": 0.9}}[name]
    layer = nn.Conv2d(8, 16, 3, bias=False)
    layer.weight = nn.Parameter(torch.from_numpy(data["p0.conv3"]).clone())
    optimizer = build_optimizer(layer, name, decay=5e-4, **settings)
    for gradient, after in zip(data["grad.conv3"], data[f"{name}.conv3_after"], strict=True):
        layer.weight.grad = torch.from_numpy(gradient).clone()
        optimizer.step()
        assert error(layer.weight, after) < 1e-5


def group_tables() -> list:
    """A case for every model and optimizer of the recorded tables; models that are not built yet must fail."""
    cases = []
    for parameter in golden.golden_files("training/param_groups.npz"):
        (path,) = parameter.values
        if path is None:
            return [pytest.param(None, None, None, marks=parameter.marks, id="absent")]
        tables = defaultdict(list)
        for row in np.load(path)["rows"]:
            model, optimizer, *cells = str(row).split("|")
            tables[model, optimizer].append(cells)
        for (model, optimizer), rows in tables.items():
            why = golden.not_built(golden.GOLDEN / "models" / f"{model}.npz")
            marks = [pytest.mark.xfail(strict=True, reason=f"not built yet: {why}")] if why else []
            cases.append(pytest.param(model, optimizer, rows, marks=marks, id=f"{model}-{optimizer}"))
    return cases


@pytest.mark.parametrize(("model", "name", "rows"), group_tables())
def test_parameter_groups(model, name, rows):
    from sightline.models.build import build_model

    nc = 1 if model.endswith("-pose") else None  # the table of this one was made for people alone
    optimizer = build_optimizer(build_model(f"{model}.yaml", nc=nc), name, lr=0.01, momentum=0.9, decay=5e-4)
    assert len(optimizer.param_groups) == len(rows)
    for index, (group, row) in enumerate(zip(optimizer.param_groups, rows, strict=True)):
        ours = [
            index,
            group["param_group"],
            len(group["params"]),
            sum(p.numel() for p in group["params"]),
            group["lr"],
            group.get("betas", group.get("momentum")),
            group["weight_decay"],
            group.get("use_muon", "-"),
            group.get("nesterov", "-"),
        ]
        assert ours == [value(cell) for cell in row]


def value(cell: str):
    return cell if cell == "-" or (cell.isalpha() and cell not in ("True", "False")) else ast.literal_eval(cell)


@pytest.mark.parametrize("path", golden.golden_files("training/param_groups.npz"))
def test_automatic_choice(path):
    rows = np.load(path)["auto_rows"]
    assert len(rows)
    for row in rows:
        nc, iterations, name, *rest = str(row).split("|")
        recorded = dict(cell.split("=", 1) for cell in (nc, iterations, *rest))
        choice = choose_automatic(int(recorded["iterations"]), int(recorded["nc"]))
        momentum = ast.literal_eval(recorded["momentum"])
        assert choice.name == name == recorded["args.optimizer"]
        assert choice.lr0 == float(recorded["args.lr0"])
        assert choice.warmup_bias_lr == float(recorded["warmup_bias_lr"])
        assert choice.momentum == (momentum[0] if isinstance(momentum, tuple) else momentum)
