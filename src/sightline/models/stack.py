"""A description → its layers, in order, and which of their outputs later layers read."""

from __future__ import annotations

from collections.abc import Sequence
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

# Pixels of the images that show the strides. The first is cheap; the last is a multiple of every stride there is.
PROBES = (64, 256)


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
    """Indices of the layers that a later one names as its input, other than by −1."""
    named = [(layer, each) for layer in stack for each in (layer.f if isinstance(layer.f, list) else [layer.f])]
    return sorted({each if each >= 0 else layer.i + each for layer, each in named if each != -1})


def inputs_of(layer: nn.Module) -> list[int]:
    """Absolute indices of the layers that feed this one; −1 is the image."""
    sources = layer.f if isinstance(layer.f, list) else [layer.f]
    return [each if each >= 0 else layer.i + each for each in sources]


@torch.no_grad()
def find_strides(stack: nn.Sequential, spec: ModelSpec) -> list[float]:
    """Pixels of the image per cell of each map that enters the last layer. Statistics of norms are left alone.

    Raises:
        ModelError: a layer cannot take what it is fed; names file and row.
    """
    training = stack.training
    stack.eval()
    try:
        for size in PROBES:
            heights = _heights_into_head(stack, spec, size)
            if heights and min(heights) > 1:  # a map of one cell may stand for less than a cell
                break
    finally:
        stack.train(training)
    return [size / height for height in heights]


def _heights_into_head(stack: nn.Sequential, spec: ModelSpec, size: int) -> list[int]:
    parameter = next(stack.parameters())
    image = torch.zeros(1, spec.channels, size, size, device=parameter.device, dtype=parameter.dtype)
    maps: list[Tensor] = []
    for layer, described in zip(stack, spec.layers, strict=True):
        inputs = [maps[each] if each >= 0 else image for each in inputs_of(layer)]
        if layer is stack[-1]:
            break
        try:
            maps.append(layer(inputs if isinstance(layer.f, list) else inputs[0]))
        except (RuntimeError, TypeError, ValueError) as problem:
            if size != PROBES[-1]:  # some layer may need a larger map
                return []
            shapes = ", ".join(str(tuple(each.shape[1:])) for each in inputs)
            raise ModelError(
                f"{described.where}: {described.block} cannot take maps of shape {shapes} (channels, height, width of "
                f"a {size}-pixel image): {problem}"
            ) from None
    return [each.shape[-2] for each in inputs]


@torch.no_grad()
def run_on_meta(module: nn.Module, *inputs: Any) -> Any:
    """Call a module for shapes only: in eval mode, on the meta device. The module itself is left as it is.

    The first call in a process takes two seconds: torch loads its compiler for some shapes.
    """
    tensors = {name: value.to("meta") for name, value in (*module.named_parameters(), *module.named_buffers())}
    was_training = [each for each in module.modules() if each.training]
    keeping = [each for each in module.modules() if isinstance(each, (nn.BatchNorm2d, nn.SiLU))]
    module.eval()
    for each in keeping:
        each.forward = _same  # torch works out this shape in Python, 4 ms a layer
    try:
        return functional_call(module, tensors, inputs)
    finally:
        for each in keeping:
            del each.forward
        for each in was_training:
            each.training = True


def _same(x: Tensor) -> Tensor:
    return x.clone()  # a tensor of its own, as the activation after it may write into it


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
