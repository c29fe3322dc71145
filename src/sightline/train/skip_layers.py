"""`fp16_skip_layers`: parts of a network that compute in float32 while the rest uses fewer bits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sightline.errors import SettingValueError
from sightline.log import LOGGER
from sightline.train.ema import unwrap

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

REGEX = "regex:"


def put_in_force(trainer: BaseTrainer) -> None:
    """Mark the parts that the setting names; before the average of the weights is made, so that it has them, too."""
    entries = trainer.args.fp16_skip_layers
    if not entries:
        return
    names = keep_in_float32(unwrap(trainer.model), entries)
    if trainer.precision.name == "fp32":
        trainer.in_force["fp16_skip_layers"] = "without effect: all of this run computes in fp32"
    elif names:
        trainer.in_force["fp16_skip_layers"] = f"in fp32: {', '.join(names)}"


def keep_in_float32(model: nn.Module, entries: Sequence[str]) -> list[str]:
    """Let the named parts compute in float32 wherever the rest of the model is under autocast.

    Args:
        entries: each the last part or the whole of a module's name ("dfl", "model.23.cv3", "23") or its class in any
            case of letters; or "regex:" and a regular expression that is searched in whole names.

    Returns:
        The outermost names that were found. An entry that finds nothing is warned of, with what there is.
    """
    modules = {name: module for name, module in model.named_modules() if name and not isinstance(module, nn.Identity)}
    found: set[str] = set()
    for entry in entries:
        mine = [name for name, module in modules.items() if _matches(entry, name, module)]
        if not mine:
            LOGGER.warning(
                f"fp16_skip_layers: nothing in this network is called {entry!r}, so it changes nothing. There are "
                f"{_what_there_is(modules)}."
            )
        found.update(mine)
    outermost = [name for name in modules if name in found and not any(_is_below(name, other) for other in found)]
    # All below it, too: a list of modules is never called itself, and a head calls its branches layer by layer.
    for module in {module: None for name in outermost for module in modules[name].modules()}:
        guard = Float32()
        module.register_forward_pre_hook(guard.before, with_kwargs=True)
        module.register_forward_hook(guard.after, always_call=True)
    return outermost


class Float32:
    """A pair of hooks around a module's forward pass: autocast off, inputs in float32."""

    def __init__(self) -> None:
        self._open: list[Any] = []  # one for each call that is going on

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        device = next((tensor.device.type for tensor in _tensors((args, kwargs))), "cpu")
        if not torch.is_autocast_enabled(device):
            self._open.append(None)
            return None
        context = torch.autocast(device, enabled=False)
        context.__enter__()
        self._open.append(context)
        return _as_float32(args), _as_float32(kwargs)

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        context = self._open.pop() if self._open else None
        if context is not None:
            context.__exit__(None, None, None)

    def __deepcopy__(self, memo: Any) -> Float32:
        return Float32()


def _matches(entry: str, name: str, module: nn.Module) -> bool:
    if entry.startswith(REGEX):
        try:
            return re.search(entry.removeprefix(REGEX), name) is not None
        except re.error as problem:
            raise SettingValueError(
                f"fp16_skip_layers={entry}: that is not a regular expression ({problem}). A dot is written \\."
            ) from None
    return name == entry or name.endswith(f".{entry}") or type(module).__name__.lower() == entry.lower()


def _is_below(name: str, other: str) -> bool:
    return name.startswith(f"{other}.")


def _what_there_is(modules: dict[str, nn.Module]) -> str:
    layers = [name for name in modules if re.fullmatch(r"model\.\d+", name)]
    parts = dict.fromkeys(name.rpartition(".")[2] for name in modules)
    words = [part for part in parts if not part.isdigit()]
    classes = dict.fromkeys(type(module).__name__ for module in modules.values())
    numbers = f"the layers {layers[0]} to {layers[-1]}, " if layers else ""
    return f"{numbers}the parts {', '.join(words)}, and the classes {', '.join(classes)}"


def _tensors(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _tensors(value)


def _as_float32(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree.float() if tree.dtype in (torch.float16, torch.bfloat16) else tree
    if isinstance(tree, dict):
        return {key: _as_float32(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_as_float32(value) for value in tree)
    return tree
