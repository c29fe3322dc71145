"""Backbone weights of classifiers (torchvision, timm) under the names that they have in a network of ours.

Only names are changed. What fits, by shape, is the business of `weights.transfer`, which reports it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor, nn

from sightline.errors import ModelError
from sightline.nn.conv import DWConv
from sightline.nn.hgnet import HGBlock, HGStem
from sightline.nn.resnet import ResNetLayer

PREFIXES = re.compile(r"^(?:(?:module|model|backbone|encoder)\.)+")  # of wrappers around a backbone
Rename = Callable[[str], str | None]


def in_names_of(layers: Sequence[nn.Module], state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The tensors under the names of a network's layers; those with no place in it are left out.

    Args:
        layers: of the network, in order (`network.model`).
        state: of a ResNet as torchvision and timm name it (`layer1.0.conv1.weight`), or of an HGNetV2 as timm does
            (`stages.0.blocks.0.layers.0.conv.weight`).

    Returns:
        None if it is neither of the two, or not the kind that the network begins with.

    Raises:
        ModelError: an HGNetV2 with factors that ours has no place for (b0 to b3).
    """
    plain = {PREFIXES.sub("", key): value for key, value in state.items()}
    rename: Rename
    if {"conv1.weight", "layer1.0.conv1.weight"} <= set(plain) and isinstance(layers[0], ResNetLayer):
        rename = _resnet(layers)
    elif {"stem.stem1.conv.weight", "stages.0.blocks.0.layers.0.conv.weight"} <= set(plain) and isinstance(
        layers[0], HGStem
    ):
        rename = _hgnet(layers)
    else:
        return None
    scaled = next((key for key in plain if key.endswith(".lab.scale")), None)
    if scaled is not None:
        raise ModelError(
            f"These backbone weights scale what comes out of an activation ({scaled}), which the HGNet of RT-DETR does "
            "not, so they would mean something else here. Take those of hgnetv2_b4 (rtdetr-l) or hgnetv2_b5 (rtdetr-x)."
        )
    renamed = {rename(key): value for key, value in plain.items()}
    return {key: value for key, value in renamed.items() if key is not None}


def _resnet(layers: Sequence[nn.Module]) -> Rename:
    """`layer2` is the second stage after the stem."""
    places = [index for index, layer in enumerate(layers) if isinstance(layer, ResNetLayer)]

    def rename(key: str) -> str | None:
        if stem := re.fullmatch(r"(conv|bn)1\.(\w+)", key):
            return f"model.{places[0]}.layer.0.{stem[1]}.{stem[2]}"
        found = re.fullmatch(r"layer(\d+)\.(\d+)\.(?:(conv|bn)(\d)|downsample\.(\d))\.(\w+)", key)
        if found is None or not 0 < int(found[1]) < len(places):
            return None
        _, block, kind, number, projection, what = found.groups()
        inside = f"cv{number}.{kind}" if kind else f"shortcut.0.{('conv', 'bn')[int(projection)]}"
        return f"model.{places[int(found[1])]}.layer.{block}.{inside}.{what}"

    return rename


def _hgnet(layers: Sequence[nn.Module]) -> Rename:
    """A stage is the blocks up to the next layer that is none; the one before it halves the map."""
    stages = list(_stages(layers))

    def rename(key: str) -> str | None:
        if stem := re.fullmatch(r"stem\.(stem\w+\.(?:conv|bn)\.\w+)", key):
            return f"model.0.{stem[1]}"
        found = re.fullmatch(r"stages\.(\d+)\.(?:downsample|blocks\.(\d+)\.(layers\.\d+|aggregation\.[01]))\.(.+)", key)
        if found is None or int(found[1]) >= len(stages):
            return None
        halving, blocks = stages[int(found[1])]
        _, block, part, rest = found.groups()
        if block is None:
            return None if halving is None else f"model.{halving}.{rest}"
        if int(block) >= len(blocks):
            return None
        inside = part.replace("layers", "m").replace("aggregation.0", "sc").replace("aggregation.1", "ec")
        return f"model.{blocks[int(block)]}.{inside}.{rest}"

    return rename


def _stages(layers: Sequence[nn.Module]) -> Iterator[tuple[int | None, list[int]]]:
    """Index of the layer that halves the map before a stage, and those of its blocks."""
    blocks: list[int] = []
    for index, layer in enumerate([*layers, nn.Identity()]):
        if isinstance(layer, HGBlock):
            blocks.append(index)
        elif blocks:
            before = layers[blocks[0] - 1]
            yield (blocks[0] - 1 if isinstance(before, DWConv) else None), blocks
            blocks = []
