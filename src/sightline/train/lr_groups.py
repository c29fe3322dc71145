"""Learning rates by part of the network: the settings `backbone_lr_ratio`, `layer_decay` and `lr_groups`.

They multiply. The result is a factor for every parameter, by which the groups of any optimizer are split, whoever
built it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer

from sightline.errors import SettingValueError
from sightline.train.ema import unwrap
from sightline.train.freeze import backbone_length, described_backbone, matches

if TYPE_CHECKING:
    from sightline.config.settings import Settings

LR_FACTORS = ("backbone_lr_ratio", "layer_decay", "lr_groups")


def lr_factors(
    model: nn.Module,
    *,
    backbone_lr_ratio: float | None = None,
    layer_decay: float | None = None,
    lr_groups: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Parameter name → what its learning rate is multiplied with.

    Args:
        backbone_lr_ratio: factor of the layers in the description's section `backbone`.
        layer_decay: layer i of n gets layer_decay ** (n − 1 − i): the head 1, the first layer the least. What stands
            outside of the layers gets 1. Source: Clark et al., ELECTRA, arXiv:2003.10555, appendix A.
        lr_groups: regular expression → factor of all parameters that it is found in (`re.search`); where several
            are, they multiply.

    Raises:
        SettingValueError: the network has no such parts, or an expression is found in no name.
    """
    model = unwrap(model)
    factors = {name: 1.0 for name, _ in model.named_parameters()}
    if backbone_lr_ratio is not None:
        length = backbone_length(model, f"backbone_lr_ratio={backbone_lr_ratio}")
        for name in factors:
            layer = _layer(name)
            if layer is not None and layer < length:
                factors[name] *= backbone_lr_ratio
    if layer_decay is not None:
        stack = getattr(model, "model", None)
        if not isinstance(stack, nn.Sequential | nn.ModuleList):
            raise SettingValueError(
                f"layer_decay={layer_decay}: {type(model).__name__} is not a sequence of layers under `model`. "
                "Use lr_groups, with expressions for its own parameter names."
            )
        for name in factors:
            layer = _layer(name)
            if layer is not None:
                factors[name] *= layer_decay ** (len(stack) - 1 - layer)
    for pattern, factor in (lr_groups or {}).items():
        for name in matches(pattern, list(factors), f"lr_groups={dict(lr_groups or {})}"):
            factors[name] *= factor
    return factors


def split_groups(optimizer: Optimizer, model: nn.Module, factors: Mapping[str, float]) -> None:
    """Split every group by the factors of its parameters, in place; learning rates become lr · factor.

    The pieces keep all that the group had (`param_group`, weight decay, `use_muon`, …), and the order of parameters.
    Each gets `lr_factor`, and a `name` made of kind and factor, such as "bias ×0.1". A parameter that is none of the
    model's keeps the rate of its group.
    """
    by_id = {id(parameter): factors[name] for name, parameter in unwrap(model).named_parameters()}
    groups = []
    for index, group in enumerate(optimizer.param_groups):
        pieces: dict[float, list[Any]] = {}
        for parameter in group["params"]:
            pieces.setdefault(by_id.get(id(parameter), 1.0), []).append(parameter)
        for factor, parameters in pieces.items() or [(1.0, [])]:
            piece = {**group, "params": parameters, "lr": group["lr"] * factor, "lr_factor": factor}
            if "initial_lr" in group:
                piece["initial_lr"] = group["initial_lr"] * factor
            kind = group.get("name") or group.get("param_group") or f"group {index}"
            piece["name"] = f"{kind} ×{factor:.3g}"
            groups.append(piece)
    optimizer.param_groups[:] = groups


def split_at_backbone(optimizer: Optimizer, model: nn.Module) -> None:
    """Split every group, in place, into that of the head and that of the backbone, of the same numbers.

    A network without a description that says where its backbone ends keeps its groups.
    """
    network = unwrap(model)
    length = described_backbone(network)
    if not length:
        return
    layers = {id(parameter): _layer(name) for name, parameter in network.named_parameters()}
    groups = []
    for part in ("head", "backbone"):
        for group in optimizer.param_groups:
            inside = [each for each in group["params"] if _is_before(layers.get(id(each)), length) == (part != "head")]
            groups.append({**group, "params": inside, "name": f"{part} {group.get('param_group', '')}".strip()})
    optimizer.param_groups[:] = groups


def split_by_settings(optimizer: Optimizer, model: nn.Module, settings: Settings) -> dict[str, str]:
    """Split the groups if the settings ask for it. Returns setting → what it does in this run, for the summary."""
    given = {name: getattr(settings, name) for name in LR_FACTORS if getattr(settings, name) is not None}
    if not given:
        return {}
    split_groups(optimizer, model, lr_factors(model, **given))
    factors = sorted({group["lr_factor"] for group in optimizer.param_groups})
    listed = ", ".join(f"×{factor:.3g}" for factor in (factors if len(factors) <= 4 else [factors[0], factors[-1]]))
    line = f"{len(optimizer.param_groups)} groups, learning rates {'' if len(factors) <= 4 else 'from '}{listed}"
    return dict.fromkeys(given, line.replace(", ×", " to ×") if len(factors) > 4 else line)


def _is_before(layer: int | None, length: int) -> bool:
    return layer is not None and layer < length


def _layer(name: str) -> int | None:
    """The index of the layer that a parameter is in; None outside of `model.<index>`."""
    found = re.match(r"model\.(\d+)\.", name)
    return int(found[1]) if found else None
