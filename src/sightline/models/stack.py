"""A description → its layers, in order, and which of their outputs later layers read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sightline.errors import ModelError
from sightline.models.layers import NEW_STYLE, Context, find_layer
from sightline.models.spec import LayerSpec, ModelSpec
from sightline.nn.conv import Conv

# What `activation:` of a description may name, with or without the reference's spelling `nn.ReLU()`.
ACTIVATIONS = (nn.SiLU, nn.ReLU, nn.LeakyReLU, nn.GELU, nn.Mish, nn.Hardswish, nn.Identity, nn.ELU)


def make_layers(spec: ModelSpec) -> nn.Sequential:
    """The layers of a description. Each carries, under the names that scripts know, its index `i`, its inputs `f` (as
    in the description), its block's name `type` and its parameter count `np`.

    Raises:
        ModelError: a row's arguments do not fit its block; names file and row.
    """
    context = Context(
        scale=spec.scale,
        nc=spec.nc,
        reg_max=spec.reg_max,
        end2end=spec.end2end,
        old_style=not any(layer.block in NEW_STYLE for layer in spec.layers),
    )
    widths: list[int] = []
    made: list[nn.Module] = []
    for index, layer in enumerate(spec.layers):
        sources = layer.source if isinstance(layer.source, tuple) else (layer.source,)
        inputs = [widths[each] if widths else spec.channels for each in sources]
        module, width = _make(layer, inputs, context)
        source = list(layer.source) if isinstance(layer.source, tuple) else layer.source
        module.i, module.f, module.type = index, source, layer.block
        module.np = sum(parameter.numel() for parameter in module.parameters())
        widths.append(width)
        made.append(module)
    stack = nn.Sequential(*made)
    if "activation" in spec.extra:
        _replace_activation(stack, spec)
    return stack


def saved_layers(stack: Sequence[nn.Module]) -> list[int]:
    """Indices of the layers that a later one reads and that are not simply the one before it."""
    return sorted({index for layer in stack for index in inputs_of(layer) if index != layer.i - 1})


def inputs_of(layer: nn.Module) -> list[int]:
    """Absolute indices of the layers that feed this one; −1 is the image."""
    sources = layer.f if isinstance(layer.f, list) else [layer.f]
    return [each if each >= 0 else layer.i + each for each in sources]


def shapes_into_head(stack: nn.Sequential, spec: ModelSpec, size: int) -> list[torch.Size]:
    """Shapes of the maps that enter the last layer for an image (1, C, size, size). No arithmetic is done.

    Raises:
        ModelError: a layer cannot take what it is fed; names file and row.
    """
    maps: list[Tensor] = []
    image = torch.empty(1, spec.channels, size, size, device="meta")
    for layer, described in zip(stack, spec.layers, strict=True):
        inputs = [maps[each] if each >= 0 else image for each in inputs_of(layer)]
        if layer is stack[-1]:
            return [each.shape for each in inputs]
        try:
            maps.append(run_on_meta(layer, inputs if isinstance(layer.f, list) else inputs[0]))
        except (RuntimeError, TypeError, ValueError) as problem:
            shapes = ", ".join(str(tuple(each.shape[1:])) for each in inputs)
            raise ModelError(
                f"{described.where}: {described.block} cannot take maps of shape {shapes} (channels, height, width of "
                f"a {size}-pixel image): {problem}"
            ) from None
    raise ModelError(f"{spec.file}: there is no layer")


@torch.no_grad()
def run_on_meta(module: nn.Module, *inputs: Any) -> Any:
    """Call a module for shapes only: in eval mode, on the meta device. The module itself is left as it is."""
    tensors = {name: value.to("meta") for name, value in _tensors(module)}
    was_training = [each for each in module.modules() if each.training]
    module.eval()
    try:
        return functional_call(module, tensors, inputs)
    finally:
        for each in was_training:
            each.training = True


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _make(layer: LayerSpec, inputs: Sequence[int], context: Context) -> tuple[nn.Module, int]:
    kind = find_layer(layer.block)
    try:
        return kind.build(inputs, dict(layer.arguments), context.scale.repeats(layer.repeats), context)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as problem:
        raise ModelError(
            f"{layer.where}: {layer.block} cannot be made with {dict(layer.arguments)} "
            f"on {list(inputs)} channels: {problem}"
        ) from None


def _replace_activation(stack: nn.Module, spec: ModelSpec) -> None:
    """Another activation wherever the default one stands."""
    text = str(spec.extra["activation"])
    name = text.removeprefix("torch.").removeprefix("nn.").removesuffix("()")
    known = {each.__name__: each for each in ACTIVATIONS}
    if name not in known:
        raise ModelError(f"{spec.file}: activation is {text!r}; it can be {', '.join(known)}.")
    for module in stack.modules():
        if isinstance(module, Conv) and isinstance(module.act, nn.SiLU):
            module.act = known[name]()
