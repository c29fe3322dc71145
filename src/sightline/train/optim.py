"""Optimizers: which parameter learns how (groups), and the optimizer that a name means.

MuSGD itself is in `musgd.py`; what `optimizer=auto` means in this library is in `recipe.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sightline.errors import SettingValueError
from sightline.train.musgd import MuSGD, match_layouts, newton_schulz, supports_fused

__all__ = ["MuSGD", "build_optimizer", "choose_automatic", "gate_step", "newton_schulz", "parameter_groups"]

NORM_LAYERS = tuple(kind for name, kind in vars(nn).items() if "Norm" in name and isinstance(kind, type))

# The class branches of a head start from a prior of one object in a hundred cells and have the longest way to go.
BOOSTED_BRANCHES = ("cv3", "one2one_cv3")
BOOSTED_NAMES = ("proto.semseg", "SemanticSegment")
BOOST = 3.0


class ParameterGroups(NamedTuple):
    """Parameters by what weight decay and orthogonalisation may do to them; each list in module order."""

    weight: list[nn.Parameter]  # decays
    bn: list[nn.Parameter]  # scales of norms: decay would only fight the layer before
    bias: list[nn.Parameter]  # has a warm-up of its own
    muon: list[nn.Parameter]  # matrices and convolutions of MuSGD; decays


def parameter_groups(model: nn.Module, muon: bool = False) -> tuple[ParameterGroups, ParameterGroups]:
    """Sort the parameters of a model, frozen ones too: they may thaw, and without gradient nothing happens to them.

    Args:
        muon: whether parameters with 2 or 4 axes form a group of their own.

    Returns:
        (boosted, rest): the class branches of the head, which MuSGD trains at three times the rate, and all others.
    """
    while hasattr(model, "_orig_mod"):  # a compiled model has the same parameters under longer names
        model = model._orig_mod
    boosted, rest = ParameterGroups([], [], [], []), ParameterGroups([], [], [], [])
    prefixes = tuple(f"{_head_name(model)}.{branch}." for branch in BOOSTED_BRANCHES)
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for own_name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:  # a weight shared by two layers is one parameter
                continue
            seen.add(id(parameter))
            name = f"{module_name}.{own_name}" if module_name else own_name
            is_boosted = name.startswith(prefixes) or any(part in name for part in BOOSTED_NAMES)
            groups = boosted if is_boosted else rest
            if muon and parameter.ndim in (2, 4):
                groups.muon.append(parameter)
            elif "bias" in name:
                groups.bias.append(parameter)
            elif isinstance(module, NORM_LAYERS) or "logit_scale" in name:
                groups.bn.append(parameter)
            else:
                groups.weight.append(parameter)
    return boosted, rest


def _head_name(model: nn.Module) -> str:
    """The dotted name of the last layer of a network built from a table, "model.23" for instance."""
    layers = getattr(model, "model", None)
    if isinstance(layers, nn.Sequential | nn.ModuleList) and len(layers):
        return f"model.{len(layers) - 1}"
    return "model.-"  # a network of the user's own has no head that we know: nothing is boosted


def build_optimizer(
    model: nn.Module,
    name: str = "auto",
    *,
    lr: float = 0.001,
    momentum: float = 0.9,
    decay: float = 1e-5,
    iterations: float = 1e5,
) -> torch.optim.Optimizer:
    """The optimizer that `name` means (in any case of letters), with its parameter groups.

    Args:
        lr: learning rate of ordinary groups.
        momentum: β₁ for the Adam family.
        decay: weight decay per step, already scaled to the batch (`schedule.scaled_weight_decay`).
        iterations: length of the run in steps; only `auto` asks.

    Returns:
        Groups weight, bn, bias; MuSGD has eight: weight, bn, bias, muon, each boosted and ordinary. Every group has
        its kind under the key `param_group`.

    Raises:
        SettingValueError: there is no such optimizer.
    """
    if name.lower() == "auto":
        name, lr, momentum, _ = choose_automatic(iterations, getattr(model, "nc", 10))
    build = _BUILDERS.get(name.lower())
    if build is None:
        near = difflib.get_close_matches(name.lower(), _BUILDERS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise SettingValueError(f"optimizer={name} is unknown.{hint} Allowed: {', '.join(NAMES)}, auto.")
    return build(model, lr, momentum, decay)


def _plain_groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    boosted, rest = parameter_groups(model)
    kinds = {"weight": decay, "bn": 0.0, "bias": 0.0}
    order = {id(p): i for i, p in enumerate(model.parameters())}
    return [
        {
            # The boost is MuSGD's: here both halves are one group again, in the order of the model.
            "params": sorted(getattr(boosted, kind) + getattr(rest, kind), key=lambda p: order[id(p)]),
            "weight_decay": weight_decay,
            "param_group": kind,
        }
        for kind, weight_decay in kinds.items()
    ]


def _musgd(model: nn.Module, lr: float, momentum: float, decay: float) -> torch.optim.Optimizer:
    boosted, rest = parameter_groups(model, muon=True)
    groups = [
        {
            "params": getattr(half, kind),
            "lr": lr * factor,
            "weight_decay": decay if kind in ("weight", "muon") else 0.0,
            "use_muon": kind == "muon",
            "param_group": kind,
        }
        for kind in ("weight", "bn", "bias", "muon")
        for half, factor in ((boosted, BOOST), (rest, 1.0))
    ]
    return MuSGD(groups, lr=lr, momentum=momentum, nesterov=True, muon=0.2, sgd=1.0)


def _sgd(model: nn.Module, lr: float, momentum: float, decay: float) -> torch.optim.Optimizer:
    groups = _plain_groups(model, decay)
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, **_fused(model))
    if momentum > 0 and optimizer.defaults["fused"]:
        # torch's fused kernel makes all buffers in the first step and uses them unset if that step is gated, and it
        # fails when a layer thaws later. Zeros from the start give the same numbers: μ·0 + g = g.
        for parameter in model.parameters():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _adam_family(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    def build(model: nn.Module, lr: float, momentum: float, decay: float) -> torch.optim.Optimizer:
        fused = _fused(model) if kind in (torch.optim.Adam, torch.optim.AdamW) else {}
        groups = _plain_groups(model, decay)
        # weight_decay=0 as default too: AdamW's own default of 0.01 must not reach a group added later.
        return _checked(kind(groups, lr=lr, betas=(momentum, 0.999), weight_decay=0.0, **fused))

    return build


def _rmsprop(model: nn.Module, lr: float, momentum: float, decay: float) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(_plain_groups(model, decay), lr=lr, momentum=momentum)


def _fused(model: nn.Module) -> dict[str, bool]:
    """torch's single-pass kernels, on CPU 4× faster for yolo26n than a loop over parameters."""
    return {"fused": supports_fused(list(model.parameters()))}


def _checked(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    if optimizer.defaults.get("fused"):
        optimizer.register_step_pre_hook(match_layouts)
    return optimizer


_BUILDERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda *args: _checked(_sgd(*args)),
    "musgd": _musgd,
    "adam": _adam_family(torch.optim.Adam),
    "adamw": _adam_family(torch.optim.AdamW),
    "nadam": _adam_family(torch.optim.NAdam),
    "radam": _adam_family(torch.optim.RAdam),
    "adamax": _adam_family(torch.optim.Adamax),
    "rmsprop": _rmsprop,
}
NAMES = ("SGD", "MuSGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSProp", "Adamax")


class AutomaticChoice(NamedTuple):
    """What the reference takes for `optimizer=auto`."""

    name: str
    lr0: float
    momentum: float
    warmup_bias_lr: float


def choose_automatic(iterations: float, nc: int = 10) -> AutomaticChoice:
    """The reference's rule: MuSGD for long runs, AdamW with a rate that shrinks with the class count for short ones.

    Args:
        iterations: ceil(training images / max(batch, nbs)) · epochs.
        nc: classes of the data set.
    """
    if iterations > 10_000:
        return AutomaticChoice("MuSGD", 0.01, 0.9, 0.0)
    return AutomaticChoice("AdamW", round(0.002 * 5 / (4 + nc), 6), 0.9, 0.0)


def gate_step(optimizer: torch.optim.Optimizer, finite: Tensor) -> bool:
    """Make `step()` do nothing if `finite` (() bool, on the device) is false, without reading it here.

    The verdict stays until the next call, so call this before every step or never.

    Returns:
        False if this optimizer cannot: the caller must then read the flag (a synchronisation) and leave the step out.
    """
    supported = bool(getattr(optimizer, "_step_supports_amp_scaling", False))
    if supported:
        optimizer.grad_scale, optimizer.found_inf = None, (~finite).float()  # the names are those of GradScaler
    return supported
