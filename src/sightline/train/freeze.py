"""Freezing layers: which parameters do not train, without touching what the user froze."""

from __future__ import annotations

from torch import nn

from sightline.errors import SettingValueError, TrainingError


def layer_prefixes(freeze: int | list[int | str] | None) -> list[str]:
    """Module names that the setting `freeze` means: 3 → the first three layers; [2, "23.cv2"] → those."""
    if freeze is None:
        return []
    entries = list(range(freeze)) if isinstance(freeze, int) else list(freeze)
    return [f"model.{str(entry).removeprefix('model.')}" for entry in entries]


def inside(name: str, prefixes: list[str]) -> bool:
    """Whether a dotted name is one of the prefixes or below it ("model.2" does not hold "model.22.cv1")."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def apply(model: nn.Module, freeze: int | list[int | str] | None) -> list[str]:
    """Set requires_grad False below the frozen names; a parameter that is already frozen stays so.

    Returns:
        The frozen module names.

    Raises:
        SettingValueError: a name matches no parameter.
        TrainingError: nothing is left to train.
    """
    prefixes = layer_prefixes(freeze)
    names = [name for name, _ in model.named_parameters()]
    for prefix in prefixes:
        # Layers without weights (Upsample, Concat) may stand in a range; a name that is no module at all is a mistake.
        if dict(model.named_modules()).get(prefix) is None and prefix not in names:
            layers = len(model.model)
            raise SettingValueError(
                f"freeze={freeze}: the model has no {prefix!r}. Layers are 0–{layers - 1}; "
                f"parts are written as '{layers - 1}.cv2'."
            )
    for name, parameter in model.named_parameters():
        if inside(name, prefixes):
            parameter.requires_grad = False
    if not any(parameter.requires_grad for parameter in model.parameters()):
        what = "requires_grad is False for all of the model, which" if freeze is None else f"freeze={freeze}"
        raise TrainingError(f"{what} leaves nothing to train. Freeze fewer layers.")
    return prefixes


def frozen_names(model: nn.Module) -> frozenset[str]:
    """The parameters that do not train."""
    return frozenset(name for name, parameter in model.named_parameters() if not parameter.requires_grad)


def keep(model: nn.Module, names: frozenset[str]) -> None:
    """Freeze parameters by name: those that the user froze in the network which this one was made from."""
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.requires_grad = False


def hold_batch_norm(model: nn.Module, prefixes: list[str]) -> None:
    """BatchNorm below the frozen names keeps its running statistics."""
    if not prefixes:
        return
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and inside(name, prefixes):
            module.eval()
