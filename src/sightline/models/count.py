"""How large a network is: layers, parameters, arithmetic."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from sightline.models.stack import run_on_meta
from sightline.nn.area_attention import AreaAttention
from sightline.nn.attention import Attention
from sightline.nn.transformer import MultiheadAttention

ATTENTION = (Attention, AreaAttention)
COUNTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, *ATTENTION, MultiheadAttention, nn.BatchNorm2d, nn.GroupNorm)


def summary(network: nn.Module, *, imgsz: int = 640) -> tuple[int, int, int, float]:
    """(layers, parameters, parameters with gradient, GFLOPs at `imgsz`)."""
    parameters = list(network.parameters())
    return (
        layers(network),
        sum(each.numel() for each in parameters),
        sum(each.numel() for each in parameters if each.requires_grad),
        gflops(network, imgsz=imgsz),
    )


def layers(network: nn.Module) -> int:
    """Modules without children, as published counts have it.

    There all SiLU of a network are one object, and each copied branch (`one2one_…`) brought a copy of it along; here
    every block has its own, so they are counted by that rule. Those of the flow of a pose head are none of a block, and
    their own objects there, too.
    """
    others, activations = 0, set()
    for name, module in network.named_modules():
        if isinstance(module, nn.SiLU) and ".flow_model." not in name:
            copied = re.search(r"one2one_\w+", name)
            activations.add(copied.group() if copied else "")
        elif not list(module.children()):
            others += 1
    return others + len(activations)


def gflops(network: nn.Module, *, imgsz: int = 640) -> float:
    """Arithmetic for one square image, in 10⁹ operations.

    Counted are two for each multiply-add of a convolution, a linear layer or attention (queries with keys, weights with
    values), and eight an element for each norm; activations are not, which is how published numbers are made. Only
    shapes are worked out, on the meta device, so this is quick for any size.
    """
    total = 0

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal total
        total += _operations(module, inputs[0], output)

    hooks = [module.register_forward_hook(count) for module in network.modules() if isinstance(module, COUNTED)]
    try:
        run_on_meta(network, torch.empty(1, network.yaml["channels"], imgsz, imgsz, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    return total / 1e9


def table(network: nn.Module) -> str:
    """One line a layer: index, inputs, parameters, block."""
    rows = [f"{'#':>3}  {'from':<16} {'parameters':>12}  block"]
    for layer in network.model:
        parameters = sum(each.numel() for each in layer.parameters())
        rows.append(f"{layer.i:>3}  {layer.f!s:<16} {parameters:>12,}  {layer.type}")
    return "\n".join(rows)


def _operations(module: nn.Module, x: Tensor, y: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        return 2 * y.numel() * module.weight[0].numel()
    if isinstance(module, nn.ConvTranspose2d):
        return 2 * x.numel() * module.weight[0].numel()
    if isinstance(module, nn.Linear):
        return 2 * y.numel() * module.in_features
    if isinstance(module, ATTENTION):
        return 2 * x.shape[0] * module.multiply_adds(x.shape[2] * x.shape[3])
    if isinstance(module, MultiheadAttention):  # its last layer is a Linear and counts itself
        return 2 * x.numel() * (3 * module.width + 2 * x.shape[1])
    return 8 * y.numel()
