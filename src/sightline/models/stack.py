"""A description → its layers, in order, and which of their outputs later layers read."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sightline.errors import ModelError
from sightline.models.layers import NEW_STYLE, Context, find_layer
from sightline.models.spec import LayerSpec, ModelSpec
from sightline.nn import group_norm
from sightline.nn.conv import Conv

# Pixels of the images that show the strides. The last is a multiple of every stride there is.
PROBES = (64, 256)
MAX_PROBE = 2**24  # numbers that a layer may be shown, if it wants to see any
MAX_SIDE = 2**14  # of its maps, in pixels

# What layers raise for arguments and maps that they cannot take; those of torch have no rule for it.
REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


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
        kpt_shape=spec.kpt_shape,
    )
    widths: list[int] = []
    made: list[nn.Module] = []
    for index, layer in enumerate(spec.layers):
        sources = layer.source if isinstance(layer.source, tuple) else (layer.source,)
        inputs = [widths[each] if widths else spec.channels for each in sources]
        module, width = _make(layer, inputs, context)
        source = list(layer.source) if isinstance(layer.source, tuple) else layer.source
        module.i, module.f, module.type = index, source, layer.block
        widths.append(width)
        made.append(module)
    stack = nn.Sequential(*made)
    if "activation" in spec.extra:
        _replace_activation(stack, spec)
    if spec.extra.get("norm") == "gn":
        group_norm.convert(stack)
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
    image = torch.zeros(0, spec.channels, size, size, device=parameter.device, dtype=parameter.dtype)
    maps: list[Tensor] = []
    for layer, described in zip(stack, spec.layers, strict=True):
        inputs = [maps[each] if each >= 0 else image for each in inputs_of(layer)]
        if layer is stack[-1]:
            break
        try:
            maps.append(_shown(layer, inputs))
        except REFUSALS as problem:
            if size != PROBES[-1]:  # some layer may need a larger map
                return []
            shapes = ", ".join(str(tuple(each.shape[1:])) for each in inputs)
            raise ModelError(
                f"{described.where}: {described.block} cannot take maps of shape {shapes} (channels, height, width of "
                f"a {size}-pixel image): {problem}"
            ) from None
    if not all(isinstance(each, Tensor) and each.ndim == 4 for each in inputs):
        raise ModelError(f"{described.where}: {described.block} takes maps (batch, channels, height, width) only.")
    return [each.shape[-2] for each in inputs]


def _shown(layer: nn.Module, inputs: list[Tensor]) -> Tensor:
    """What a layer makes of maps of no image at all, (0, C, H, W): the shape, without arithmetic or memory for it.

    Some layers need an image to know a shape, such as those with `view(B, C, -1)`; they get one, of zeros.
    """
    if isinstance(layer, nn.Upsample):  # works out where each pixel comes from, however many images there are
        _check_sides(_enlarged(layer, inputs[0]))
    try:
        made = layer(inputs if isinstance(layer.f, list) else inputs[0])
    except REFUSALS:
        if sum(each.shape[1:].numel() for each in inputs) > MAX_PROBE:
            raise
        images = [each.new_zeros(1, *each.shape[1:]) for each in inputs]
        made = layer(images if isinstance(layer.f, list) else images[0])[:0]
    if isinstance(made, Tensor):
        _check_sides(made.shape[2:])
    return made


def _enlarged(layer: nn.Upsample, x: Tensor) -> list[float]:
    given = layer.scale_factor if layer.size is None else layer.size
    sides = given if isinstance(given, (tuple, list)) else [given]
    return [side * max(x.shape[2:]) if layer.size is None else side for side in sides]


def _check_sides(sides: Sequence[float]) -> None:
    if max(sides, default=0) > MAX_SIDE:
        raise ValueError(f"this makes maps with {max(sides):.3g} pixels on one side")


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
        module, width = kind.build(inputs, dict(layer.arguments), context.scale.repeats(layer.repeats), context)
        module.np = sum(parameter.numel() for parameter in module.parameters())
        return module, width
    except REFUSALS as problem:
        raise ModelError(
            f"{layer.where}: {layer.block} cannot be made with {dict(layer.arguments)} "
            f"on {list(inputs)} channels: {problem}"
        ) from None


def _replace_activation(stack: nn.Module, spec: ModelSpec) -> None:
    """Another activation wherever the default one stands."""
    text = str(spec.extra["activation"])
    try:
        make = _activation(text)
        for module in stack.modules():
            if isinstance(module, Conv) and isinstance(module.act, nn.SiLU):
                module.act = make()
    except (*REFUSALS, SyntaxError, RecursionError, MemoryError) as problem:
        raise ModelError(
            f"{spec.file}: activation is {text!r:.200}; it can be SiLU, ReLU, LeakyReLU(0.1) or any other of torch.nn, "
            f"with plain numbers as arguments ({problem})."
        ) from None


def _activation(text: str) -> Callable[[], nn.Module]:
    """What makes the activation of a text such as `torch.nn.LeakyReLU(0.1)`, `nn.ReLU()` or `ReLU`. Nothing is run.

    Raises:
        ValueError, SyntaxError: it is something else.
    """
    if len(text) > 100:
        raise ValueError("it is too long")
    tree: ast.expr = ast.parse(text.removeprefix("torch.").removeprefix("nn."), mode="eval").body
    call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
    make = getattr(nn, call.func.id, None) if isinstance(call.func, ast.Name) else None
    if make is not nn.Identity and getattr(make, "__module__", "") != nn.SiLU.__module__:
        raise ValueError("there is no such activation")
    values = [ast.literal_eval(each) for each in call.args]
    named = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
    return lambda: make(*values, **named)
