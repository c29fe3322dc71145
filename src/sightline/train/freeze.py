"""Freezing layers: what the setting `freeze` means in a network, and whose BatchNorm statistics are held.

When frozen parts train again is in `freeze_plan.py`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sightline.errors import SettingValueError, TrainingError
from sightline.train.ema import unwrap

REGEX = "regex:"
BACKBONE = "backbone"


def resolve(model: Any, wanted: int | str | Sequence[int | str] | None, *, setting: str = "freeze") -> list[str]:
    """Dotted names of the modules and parameters that a setting means.

    Args:
        wanted: 3 → the first three layers; else an entry or a list of them: 2 or "2" or "model.2" → that layer,
            "23.cv2" → a part of it, "backbone" → the layers of that section, "regex:…" → the parameters whose name
            the expression is found in.
        setting: its name, for messages.

    Raises:
        SettingValueError: an entry means nothing in this network.
    """
    if wanted is None:
        return []
    entries = range(wanted) if isinstance(wanted, int) else [wanted] if isinstance(wanted, str) else wanted
    found = [name for entry in entries for name in _names_of(model, str(entry), f"{setting}={wanted}")]
    return list(dict.fromkeys(found))


def _names_of(model: Any, entry: str, given: str) -> list[str]:
    parameters = [name for name, _ in model.named_parameters()]
    if entry.startswith(REGEX):
        return matches(entry.removeprefix(REGEX), parameters, given)
    if entry == BACKBONE:
        return [f"model.{index}" for index in range(backbone_length(model, given))]
    known = [name for name, _ in model.named_modules()] + parameters
    # Scripts end layer names with a dot ("model.2."). Layers without weights (Upsample) may stand in a range.
    name = entry.rstrip(".")
    longer = f"model.{name.removeprefix('model.')}"
    for possible in (longer, name) if name.isdigit() else (name, longer):
        if possible and possible in known:
            return [possible]
    raise SettingValueError(f"{given}: the model has no {longer!r}.{_near(name, known)}{_layers(model)}")


def matches(pattern: str, names: Sequence[str], given: str) -> list[str]:
    """The names that a regular expression is found in (`re.search`).

    Raises:
        SettingValueError: it is no regular expression, or found in no name; `given` begins the message.
    """
    try:
        expression = re.compile(pattern)
    except re.error as problem:
        raise SettingValueError(
            f"{given}: {pattern!r} is not a regular expression ({problem}). A dot is written \\."
        ) from None
    found = [name for name in names if expression.search(name)]
    if not found:
        raise SettingValueError(f"{given}: {pattern!r} is found in no parameter name.{_near(pattern, names)}")
    return found


def backbone_length(model: Any, given: str) -> int:
    """How many layers the section `backbone` of a network's description has.

    Raises:
        SettingValueError: the network has no description; `given` begins the message.
    """
    length = described_backbone(model)
    if not length:
        raise SettingValueError(
            f"{given}: {type(model).__name__} has no description (`yaml`) that says where the backbone ends. "
            "Name its layers or parameters instead."
        )
    return length


def described_backbone(model: Any) -> int:
    """As `backbone_length`; 0 for a network without a description."""
    description = getattr(model, "yaml", None)
    return len(description.get("backbone") or ()) if isinstance(description, dict) else 0


def _near(name: str, known: Sequence[str]) -> str:
    plain = re.sub(r"[\\^$()\[\]?*+|]", "", name)
    near = difflib.get_close_matches(plain, known, n=3, cutoff=0.5)
    return f" Near names: {', '.join(near)}." if near else ""


def _layers(model: Any) -> str:
    stack = getattr(model, "model", None)
    if not isinstance(stack, nn.Sequential | nn.ModuleList):
        return ""
    last = len(stack) - 1
    return f" Layers are 0–{last}; parts are written as '{last}.cv2', also backbone and {REGEX}… are understood."


def inside(name: str, prefixes: Iterable[str]) -> bool:
    """Whether a dotted name is one of the prefixes or below it ("model.2" does not hold "model.22.cv1")."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def apply(model: nn.Module, freeze: int | str | Sequence[int | str] | None) -> list[str]:
    """Set requires_grad False below the frozen names; a parameter that is already frozen stays so.

    Returns:
        The frozen names.

    Raises:
        SettingValueError: an entry means nothing in this network.
        TrainingError: nothing is left to train.
    """
    prefixes = resolve(model, freeze)
    for name, parameter in model.named_parameters():
        if inside(name, prefixes):
            parameter.requires_grad = False
    if not any(parameter.requires_grad for parameter in model.parameters()):
        what = "requires_grad is False for all of the model, which" if freeze is None else f"freeze={freeze}"
        raise TrainingError(f"{what} leaves nothing to train. Freeze fewer layers.")
    return prefixes


def frozen_names(model: nn.Module) -> frozenset[str]:
    """The parameters that do not train."""
    return frozenset(name for name, parameter in unwrap(model).named_parameters() if not parameter.requires_grad)


def keep(model: nn.Module, names: frozenset[str]) -> None:
    """Freeze parameters by name: those that the user froze in the network which this one was made from."""
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.requires_grad = False


def set_frozen(model: nn.Module, names: Iterable[str]) -> None:
    """Freeze these parameters and no others."""
    wanted = set(names)
    for name, parameter in unwrap(model).named_parameters():
        parameter.requires_grad = name not in wanted


def hold_batch_norm(
    model: nn.Module, held: Sequence[str], freed: Sequence[str] = (), *, frozen_too: bool = True
) -> None:
    """Eval mode, so running statistics that stay, for BatchNorm that is frozen.

    Args:
        held: names below which BatchNorm is held whatever its parameters do.
        freed: names below which it moves although its parameters are frozen.
        frozen_too: hold it also where all its own parameters are frozen, whoever did that.
    """
    for name, module in unwrap(model).named_modules():
        if not isinstance(module, _BatchNorm):
            continue
        own = list(module.parameters(recurse=False))
        frozen = bool(own) and not any(parameter.requires_grad for parameter in own)
        if inside(name, held) or (frozen_too and frozen and not inside(name, freed)):
            module.eval()
