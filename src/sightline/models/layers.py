"""The one table of layers that a description may name, and how the arguments of a row are read.

A new layer is its class in `nn/` and one row here; a user's own class is `LAYERS["MyBlock"] = sized(MyBlock, …)`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from sightline.nn.area_attention import A2C2f
from sightline.nn.attention import C2PSA
from sightline.nn.conv import NORM_EPS, NORM_MOMENTUM, Conv, DWConv
from sightline.nn.csp import C3, Bottleneck, C2f, C3k, C3k2
from sightline.nn.heads.detect import Detect
from sightline.nn.heads.pose import Pose, Pose26
from sightline.nn.heads.rtdetr import RTDETRDecoder
from sightline.nn.hgnet import HGBlock, HGStem, LightConv
from sightline.nn.pooling import SPPF
from sightline.nn.reparameterised import RepC3, RepConv
from sightline.nn.resnet import ResNetLayer
from sightline.nn.routing import Concat
from sightline.nn.transformer import AIFI


@dataclass(frozen=True)
class Scale:
    """One size of a family: multipliers for repeats and channels, and the channels' upper limit before scaling."""

    letter: str = ""
    depth: float = 1.0
    width: float = 1.0
    max_channels: float = math.inf

    def channels(self, nominal: int) -> int:
        """A multiple of 8, rounded up."""
        return math.ceil(min(nominal, self.max_channels) * self.width / 8) * 8

    def repeats(self, nominal: int) -> int:
        """At least 1; a single layer stays single. Halves go to the even side: 3 · 0.5 gives 2."""
        return max(round(nominal * self.depth), 1) if nominal > 1 else nominal


@dataclass(frozen=True)
class Context:
    """What the rows of one description have in common."""

    scale: Scale
    nc: int
    reg_max: int
    end2end: bool
    old_style: bool  # of the head's class branches
    kpt_shape: tuple[int, int] | None = None  # (K, D) of a pose head


NORM = {"eps": NORM_EPS, "momentum": NORM_MOMENTUM}  # of a BatchNorm that is a row, as of all others

Arguments = dict[str, Any]
Built = tuple[nn.Module, int]  # the layer and its output channels (0 for a head)


@dataclass(frozen=True)
class Layer:
    """How one kind of layer is made from a row.

    `arguments` are the names of the row's values in the order of the reference's layout; `named` are further ones,
    which have no place in that order. In our layout all of them are keys. Names are those of the constructor, except
    that `channels` is the nominal output width, which the scale changes. Where the reference reads a row in a way that
    nobody would expect, `fixed`, `when_none` and `least` say so (decision 0177).
    """

    build: Callable[[Sequence[int], Arguments, int, Context], Built]
    arguments: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    stated: Mapping[str, Any] = field(default_factory=dict)  # what a row says even if its writer left it out
    fixed: Mapping[str, Any] = field(default_factory=dict)  # arguments of the reference that have one value here
    when_none: Mapping[str, Any] = field(default_factory=dict)  # what None says, where that is not the default
    least: int = 0  # values that a row of the reference's layout must have
    joins: bool = False  # takes a list of maps
    head: bool = False
    shared: tuple[str, ...] = ()  # arguments of a head that stand in the whole description, under the same name

    @property
    def names(self) -> tuple[str, ...]:
        return self.arguments + self.named


def sized(
    make: type[nn.Module],
    *arguments: str,
    named: tuple[str, ...] = (),
    adapt: Callable[[Arguments, Context], Arguments] | None = None,
    fixed: Mapping[str, Any] | None = None,
    when_none: Mapping[str, Any] | None = None,
) -> Layer:
    """A layer `make(in_channels, out_channels, …)`. One that takes `repeats` holds its own; others are put in a row."""
    holds_repeats = "repeats" in inspect.signature(make).parameters

    def build(inputs: Sequence[int], given: Arguments, repeats: int, context: Context) -> Built:
        (width,) = inputs
        given = dict(given) if adapt is None else adapt(dict(given), context)
        out = context.scale.channels(given.pop("channels"))
        if holds_repeats:
            return make(width, out, repeats=repeats, **given), out
        first = make(width, out, **given)
        return (
            first if repeats == 1 else nn.Sequential(first, *(make(out, out, **given) for _ in range(1, repeats)))
        ), out

    return Layer(build, ("channels", *arguments), named, fixed=fixed or {}, when_none=when_none or {})


def literal(
    make: type[nn.Module],
    *arguments: str,
    stated: Mapping[str, Any] | None = None,
    fixed: Mapping[str, Any] | None = None,
    least: int = 0,
) -> Layer:
    """A layer `make(in_channels, …)` whose widths are taken as they are, whatever the size; it has `out_channels`."""
    holds_repeats = "repeats" in inspect.signature(make).parameters

    def build(inputs: Sequence[int], given: Arguments, repeats: int, context: Context) -> Built:
        (width,) = inputs
        stated = given.get("in_channels", width)
        if stated != width:
            raise ValueError(f"in_channels is {stated}, but the map that comes in has {width}; leave it out")
        given = {name: value for name, value in given.items() if name != "in_channels"}
        if holds_repeats:
            made = make(width, **given, repeats=repeats)
            return made, int(made.out_channels)
        row = [make(width, **given)]
        if repeats > 1 and row[0].out_channels != width:
            raise ValueError("only one that keeps its width can be repeated; write a row for each")
        row.extend(make(width, **given) for _ in range(1, repeats))
        return row[0] if repeats == 1 else nn.Sequential(*row), int(row[0].out_channels)

    return Layer(build, arguments, stated=stated or {}, fixed=fixed or {}, least=least)


def width_keeping(make: type[nn.Module], *arguments: str, **stated: Any) -> Layer:
    """A layer without channel arguments whose output is as wide as its input."""

    def build(inputs: Sequence[int], given: Arguments, repeats: int, context: Context) -> Built:
        (width,) = inputs
        return make(**given), width

    return Layer(build, arguments, stated=stated)


def joining(make: type[nn.Module], *arguments: str, **stated: Any) -> Layer:
    """A layer that puts the channels of several maps together."""

    def build(inputs: Sequence[int], given: Arguments, repeats: int, context: Context) -> Built:
        return make(**given), sum(inputs)

    return Layer(build, arguments, stated=stated, joins=True)


def detection_head(make: type[nn.Module], *arguments: str, also: tuple[str, ...] = ()) -> Layer:
    """A head that learns the classes, the bins and the branches from the whole description, and what `also` names."""

    def build(inputs: Sequence[int], given: Arguments, repeats: int, context: Context) -> Built:
        shared = {name: getattr(context, name) for name in ("nc", "reg_max", "end2end", *also)}
        return make(list(inputs), **{**given, **shared}, old_style=context.old_style), 0

    return Layer(build, (*arguments, *also), joins=True, head=True, shared=("nc", *also))


def query_head(
    make: type[nn.Module], *arguments: str, named: tuple[str, ...] = (), fixed: Mapping[str, Any] | None = None
) -> Layer:
    """A head with queries in the place of cells: all it learns from the rest of the description is the classes."""

    def build(inputs: Sequence[int], given: Arguments, repeats: int, context: Context) -> Built:
        return make(list(inputs), **{**given, "nc": context.nc}), 0

    return Layer(build, arguments, named, fixed=fixed or {}, joins=True, head=True, shared=("nc",))


def from_torch(name: str) -> Layer | None:
    """`nn.MaxPool2d` and the like: any class of torch.nn, its arguments as in torch, in order or by name.

    Not the transformers: they take sequences, and copy their layers as often as told before anyone can count them.
    """
    make = getattr(nn, name.removeprefix("nn."), None) if name.startswith("nn.") else None
    if not (inspect.isclass(make) and issubclass(make, nn.Module)) or name.startswith("nn.Transformer"):
        return None

    def build(inputs: Sequence[int], given: Arguments, repeats: int, context: Context) -> Built:
        (width,) = inputs
        made = make(**({**NORM, **given} if make is nn.BatchNorm2d else given))
        return made, int(getattr(made, "out_channels", width))

    names = tuple(each for each in inspect.signature(make).parameters if each not in ("args", "kwargs"))
    return Layer(build, names)


def _wide_c3k2(given: Arguments, context: Context) -> Arguments:
    """The larger sizes use C3k whatever the row says."""
    return {**given, "c3k": True} if context.scale.letter in ("m", "l", "x") else given


def _large_a2c2f(given: Arguments, context: Context) -> Arguments:
    """The largest sizes add their input, and have a narrower feed-forward network, unless the row says otherwise."""
    large = {"residual": True, "mlp_ratio": 1.2} if context.scale.letter in ("l", "x") else {}
    return {**large, **given}


def _sppf(given: Arguments, context: Context) -> Arguments:
    """A row that states the pool count means no activation after cv1 (YOLO26); one with the kernel alone, SiLU."""
    return {"activation": "pools" not in given, **given}


NO_ACTIVATION = {"activation": False}
ONE_GROUP = {"groups": 1}
NO_DROPOUT = {"dropout": 0}

LAYERS: dict[str, Layer] = {
    "Conv": sized(Conv, "kernel", "stride", "padding", "groups", "dilation", "activation", when_none=NO_ACTIVATION),
    "DWConv": sized(DWConv, "kernel", "stride", "dilation", "activation", when_none=NO_ACTIVATION),
    "Bottleneck": sized(Bottleneck, "shortcut", "groups", "kernels", "expansion", fixed=ONE_GROUP),
    "C2f": sized(C2f, "shortcut", "groups", "expansion", fixed=ONE_GROUP),
    "C3": sized(C3, "shortcut", "groups", "expansion", fixed=ONE_GROUP),
    "C3k": sized(C3k, "shortcut", named=("expansion",)),
    "C3k2": sized(C3k2, "c3k", "expansion", "attention", "groups", "shortcut", fixed=ONE_GROUP, adapt=_wide_c3k2),
    "SPPF": sized(SPPF, "kernel", "pools", "shortcut", named=("activation",), adapt=_sppf),
    "C2PSA": sized(C2PSA, named=("expansion",)),
    "A2C2f": sized(A2C2f, "attention", "areas", "residual", "mlp_ratio", "expansion", adapt=_large_a2c2f),
    "LightConv": sized(LightConv, "kernel"),
    "RepConv": sized(RepConv),
    "RepC3": sized(RepC3, "expansion"),
    "HGStem": literal(HGStem, "middle", "channels"),
    # Without a kernel in the row the reference takes the repeats for it, and makes a chain of six.
    "HGBlock": literal(HGBlock, "middle", "channels", "kernel", "light", "shortcut", stated={"kernel": 3}, least=3),
    "ResNetLayer": literal(ResNetLayer, "in_channels", "width", "stride", "first", "count"),
    "AIFI": literal(AIFI, "hidden", "heads", "dropout", fixed=NO_DROPOUT),
    "nn.Upsample": width_keeping(nn.Upsample, "size", "scale_factor", "mode", scale_factor=2, mode="nearest"),
    "Concat": joining(Concat, "axis", axis=1),
    "Detect": detection_head(Detect, "nc"),
    "Pose": detection_head(Pose, "nc", also=("kpt_shape",)),
    "Pose26": detection_head(Pose26, "nc", also=("kpt_shape",)),
    "RTDETRDecoder": query_head(
        RTDETRDecoder,
        *("nc", "width", "queries", "points", "heads", "layers", "hidden", "dropout"),
        named=("denoising",),
        fixed=NO_DROPOUT,
    ),
}

# Heads of networks that contain any of these use depthwise class branches; the others the older, full ones.
NEW_STYLE = {"C3k2", "A2C2f", "C2fCIB"}

ALIASES = {"Upsample": "nn.Upsample"}

# Names that people's files hold and that come later. Remove a row with its issue.
LATER: dict[str, str] = {
    **dict.fromkeys(["SCDown", "PSA", "C2fCIB", "v10Detect"], "YOLOv10"),
    **dict.fromkeys(["Segment", "Segment26"], "segmentation"),
    **dict.fromkeys(["OBB", "OBB26"], "oriented boxes"),
    **dict.fromkeys(["Classify"], "classification"),
}


def find_layer(name: str) -> Layer | None:
    """The row of the table for a name; None if there is none."""
    return LAYERS.get(name) or from_torch(name)


def positional(name: str, values: Sequence[Any]) -> Arguments:
    """Values of a row in the reference's order → by name. A mapping at the end holds arguments by name.

    Raises:
        ValueError: there are more values than names, or fewer than the row must have.
    """
    kind = find_layer(name)
    names = kind.arguments
    values, extra = (values[:-1], values[-1]) if values and isinstance(values[-1], Mapping) else (values, {})
    if len(values) > len(names):
        known = ", ".join(names) or "none"
        raise ValueError(f"{len(values)} arguments, but {name} takes at most {len(names)} in this order: {known}")
    if len(values) < kind.least and not extra:
        missing = ", ".join(names[len(values) : kind.least])
        raise ValueError(
            f"{len(values)} arguments, but a row of {name} in this order says {missing}, too: where it is left out, "
            "Ultralytics takes the repeats for it"
        )
    return {**dict(zip(names, values, strict=False)), **extra}
