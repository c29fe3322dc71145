"""Moving weights from one network to another that is not quite the same: other classes, size, or first layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sightline.errors import ModelError
from sightline.models.contract import head_of
from sightline.nn.heads.detect import Detect
from sightline.nn.heads.rtdetr import RTDETRDecoder

Names = Mapping[int, str] | Sequence[str]
# The first convolution of a network: a plain one, that of an HGNet, that of a ResNet.
FIRST_CONVS = ("model.0.conv.weight", "model.0.stem1.conv.weight", "model.0.layer.0.conv.weight")
CLASS_BRANCHES = ("cv3", "one2one_cv3")
CLASS_EMBEDDING = "denoising_class_embed.weight"
QUERY_CLASS_ROWS = ("score_head", "class_embed")  # in the names of what has a row a class in a head with queries
SHOWN = 6  # names in a summary line


@dataclass
class TransferReport:
    """What a transfer did. `len(missing) + transferred == total`."""

    total: int = 0
    copied: list[str] = field(default_factory=list)  # tensors of the target that are now the source's
    missing: list[str] = field(default_factory=list)  # tensors of the target that kept their fresh values
    unused: list[str] = field(default_factory=list)  # tensors of the source with no place in the target
    remapped_rows: dict[str, int] = field(default_factory=dict)  # class name → its row in the source
    class_width: int | None = None  # inner width that the class branches took over
    first_conv: str = ""  # how the first convolution was filled, if only in part

    @property
    def transferred(self) -> int:
        return len(self.copied)

    def summary(self) -> str:
        """One line for the log."""
        parts = [f"transferred {self.transferred}/{self.total} tensors"]
        if self.class_width is not None:
            parts.append(f"class branches took the source's width {self.class_width}")
        if self.remapped_rows:
            parts.append(f"class rows taken by name: {_some(list(self.remapped_rows))}")
        if self.first_conv:
            parts.append(self.first_conv)
        if self.missing:
            parts.append(f"not transferred: {_some(self.missing)}")
        if self.unused:
            parts.append(f"{len(self.unused)} of the source have no place here")
        return "; ".join(parts)


def transfer(
    target: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source_names: Names | None = None,
    cls_remap: bool = True,
) -> TransferReport:
    """Copy into `target`, in place, what fits; the rest keeps its fresh values.

    Args:
        target: a network with `model` (the layers) and `names`.
        state: tensors by name, of any floating type.
        source_names: class names of the source.
        cls_remap: give each class the source's row of the same name, wherever it stands there.

    Returns:
        What was copied. Nothing fitting is no error here: `transferred` is 0 then.

    Raises:
        ModelError: one of the two was folded for inference and the other was not.
    """
    _refuse_folded(target, state)
    report = TransferReport()
    head = head_of(target)
    done: set[str] = set()
    if isinstance(head, Detect):
        done = _adopt_class_width(target, head, state, report)
    own = target.state_dict()  # shares memory with the target
    if cls_remap and isinstance(head, (Detect, RTDETRDecoder)):
        done |= _copy_class_rows(target, own, state, source_names, report)
    with torch.no_grad():
        for key in own:
            if key not in done and key in state and own[key].shape == state[key].shape:
                own[key].copy_(state[key])
                done.add(key)
        first = first_conv(own)
        if first in state and first not in done:
            report.first_conv = _fill_first_conv(own[first], state[first])
    report.total = len(own)
    report.copied = [key for key in own if key in done]
    report.missing = [key for key in own if key not in done]
    report.unused = [key for key in state if key not in done]
    if not report.missing and source_names is not None and is_placeholder(target.names):
        target.names = _as_dict(source_names)
    return report


def is_folded(state: Mapping[str, Tensor]) -> bool:
    """Whether BatchNorm was folded into the convolutions before these tensors were taken."""
    first = first_conv(state)
    return first is not None and first.replace("conv.weight", "bn.weight") not in state


def first_conv(state: Mapping[str, Tensor]) -> str | None:
    """The key of the first convolution; None for a network that begins with something else."""
    return next((key for key in FIRST_CONVS if key in state), None)


def _refuse_folded(target: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Folded kernels have the shape of others and mean something else: they would fit, and be wrong."""
    own = target.state_dict()
    if first_conv(own) is None or first_conv(own) != first_conv(state) or is_folded(own) == is_folded(state):
        return
    if is_folded(state):
        raise ModelError(
            "These weights were folded for inference by fuse() and cannot train or go into another network. "
            "Use the weights from before."
        )
    raise ModelError(
        "This network was folded for inference by fuse() and cannot take these weights. "
        "Make it again, and load before fuse()."
    )


def class_width(state: Mapping[str, Tensor], prefix: str) -> int | None:
    """Inner width of the class branches, e.g. `prefix` = "model.23.cv3"; None if there are none."""
    weight = state.get(f"{prefix}.0.2.weight")
    return None if weight is None or weight.ndim != 4 else weight.shape[1]


def is_old_style(state: Mapping[str, Tensor], prefix: str) -> bool:
    """Whether the class branches are of full convolutions (YOLOv8)."""
    return f"{prefix}.0.0.conv.weight" in state


def head_prefix(state: Mapping[str, Tensor]) -> str | None:
    """`model.<i>.` of the last layer that has tensors; None for keys of another form."""
    indices = {int(found[1]) for found in (re.match(r"model\.([0-9]{1,6})\.", key) for key in state) if found}
    return f"model.{max(indices)}." if indices else None


def is_placeholder(names: Names) -> bool:
    """Whether every class is called by its number: nobody has named them."""
    return all(name == str(index) for index, name in _as_dict(names).items())


def _adopt_class_width(
    target: nn.Module, head: Detect, state: Mapping[str, Tensor], report: TransferReport
) -> set[str]:
    """Give the target the source's class branches, all but their last convolution, where their inner width differs.

    That width follows from the class count when a network is built. Without this, weights trained on 80 classes would
    not fit a network of 3, and the branch would start from nothing. The last convolution is left fresh: what of it fits
    comes by class name or by shape, as everywhere. Returns the keys that are settled by this.
    """
    source, own_prefix = head_prefix(state), f"model.{len(target.model) - 1}."
    own = target.state_dict()
    if source is None or _box_widths(state, source) != _box_widths(own, own_prefix) or not _box_widths(state, source):
        return set()
    settled = set()
    for branch in CLASS_BRANCHES:
        width = class_width(state, source + branch)
        if width is None or not hasattr(head, branch) or width == class_width(own, own_prefix + branch):
            continue
        fresh = head.make_class_branches(width, old_style=is_old_style(state, source + branch))
        setattr(head, branch, fresh)
        for key, value in fresh.state_dict().items():
            offered = state.get(f"{source}{branch}.{key}")
            if not _is_last_conv(key) and offered is not None and offered.shape == value.shape:
                with torch.no_grad():
                    value.copy_(offered)
                settled.add(f"{own_prefix}{branch}.{key}")
        report.class_width = width
    if report.class_width is not None:
        head.init_biases()
    return settled


def _is_last_conv(key: str) -> bool:
    """`key` inside a branch list: "0.2.weight" is, "0.1.0.conv.weight" is not."""
    parts = key.split(".")
    return len(parts) == 3 and parts[1] == "2"


def _box_widths(state: Mapping[str, Tensor], prefix: str) -> list[int]:
    """Input width of each level's box branch; empty for a folded head or one of another kind."""
    widths = []
    while f"{prefix}cv2.{len(widths)}.0.bn.weight" in state:
        widths.append(state[f"{prefix}cv2.{len(widths)}.0.conv.weight"].shape[1])
    return widths


def _copy_class_rows(
    target: nn.Module,
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    source_names: Names | None,
    report: TransferReport,
) -> set[str]:
    """Rows of what has one a class, by class name; returns the keys that are settled by this."""
    if source_names is None or is_placeholder(source_names) or is_placeholder(target.names):
        return set()
    wanted, offered = _normalised(target.names), _normalised(source_names)
    rows = {row: offered.index(name) for row, name in enumerate(wanted) if name in offered}
    if wanted == offered or not rows:
        return set()
    done = set()
    prefix = f"model.{len(target.model) - 1}."
    for key, value in own.items():
        if not key.startswith(prefix) or not _has_class_rows(key.removeprefix(prefix)):
            continue
        source = state.get(key)
        fits = source is not None and len(source) == len(offered) and len(value) == len(wanted)
        if fits and source.shape[1:] == value.shape[1:]:
            with torch.no_grad():
                value[list(rows)] = source[list(rows.values())].to(value)
            done.add(key)
    if done:
        names = list(_as_dict(target.names).values())
        report.remapped_rows = {names[row]: source for row, source in rows.items()}
    return done


def _has_class_rows(key: str) -> bool:
    """Whether a tensor of a head, by its name there, has one row a class."""
    branch, _, inside = key.partition(".")
    return (branch in CLASS_BRANCHES and _is_last_conv(inside)) or any(each in key for each in QUERY_CLASS_ROWS)


def _fill_first_conv(own: Tensor, source: Tensor) -> str:
    """Copy what overlaps of a first convolution (C_out, C_in, k, k); returns what was done, "" for nothing."""
    if own.ndim != 4 or source.ndim != 4 or own.shape[2:] != source.shape[2:]:
        return ""
    filters = min(len(own), len(source))
    if own.shape[1] == 1:  # grey images: what three equal channels would give
        own[:filters] = source[:filters].sum(1, keepdim=True).to(own)
        return f"first convolution: {source.shape[1]} input channels summed into one"
    channels = min(own.shape[1], source.shape[1])
    own[:filters, :channels] = source[:filters, :channels].to(own)
    return f"first convolution: {filters} filters on {channels} of {own.shape[1]} input channels"


def _as_dict(names: Names) -> dict[int, str]:
    return {
        int(index): str(name) for index, name in (names.items() if isinstance(names, Mapping) else enumerate(names))
    }


def _normalised(names: Names) -> list[str]:
    return [name.strip().lower() for _, name in sorted(_as_dict(names).items())]


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown}, … ({len(names)} in all)"
