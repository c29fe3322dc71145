"""From a name, a description or a checkpoint to a network."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sightline.errors import CheckpointError, ModelError
from sightline.models.budget import Budget
from sightline.models.network import DetectionModel, PoseModel, load_spec
from sightline.models.rtdetr import RTDETRDetectionModel
from sightline.models.spec import ModelSpec
from sightline.models.weights import CLASS_BRANCHES, CLASS_EMBEDDING, class_width, head_prefix, is_folded, is_old_style
from sightline.nn.heads.detect import DFL, Detect

# The last layer of a description → the network class around it, so that a checkpoint says itself what to build.
NETWORKS: dict[str, type[DetectionModel]] = {
    "Detect": DetectionModel,
    "Pose": PoseModel,
    "Pose26": PoseModel,
    "RTDETRDecoder": RTDETRDetectionModel,
}


def build_model(
    cfg: str | Path | Mapping[str, Any] | ModelSpec,
    *,
    nc: int | None = None,
    ch: int | None = None,
    names: Mapping[int, str] | Sequence[str] | None = None,
    scale: str | None = None,
    verbose: bool = False,
    **own: Any,
) -> DetectionModel:
    """A freshly initialised network.

    Args:
        cfg: a built-in name ("yolo26n.yaml", "yolo26s-p2", "yolo26"), a YAML file in our layout or the reference's, or
            what such a file holds.
        nc: number of classes; None for as many as there are names, else the description's own.
        ch: channels of the image; None for the description's own (3).
        names: class names.
        scale: letter of the size; None for the one in the name.
        verbose: log the summary line.
        own: what the network of that head takes beside these, such as `kpt_shape` of a `PoseModel`.

    Raises:
        ModelError: unknown name, or a bad row; the message names the nearest names, or file and row.
    """
    spec = load_spec(cfg, scale=scale)
    network = NETWORKS.get(spec.head[-1].block)
    if network is None:
        raise ModelError(
            f"{spec.head[-1].where}: the last row must be a head ({', '.join(NETWORKS)}), but is {spec.head[-1].block}."
        )
    strange = [name for name in own if name not in inspect.signature(network).parameters]
    if strange:
        raise ModelError(
            f"{spec.file} describes a {network.__name__} (task={network.task}), which has no {strange[0]}. Use a "
            f"description whose last row is one of {', '.join(_heads_with(strange[0]))}, such as yolo26n-pose.yaml."
        )
    return network(spec, ch=ch, nc=nc, names=names, verbose=verbose, **own)


def _heads_with(argument: str) -> list[str]:
    return [head for head, network in NETWORKS.items() if argument in inspect.signature(network).parameters]


def build_from_state(
    yaml: Mapping[str, Any],
    *,
    nc: int | None = None,
    names: Mapping[int, str] | Sequence[str] | None = None,
    state: Mapping[str, Tensor],
    file: str | Path | None = None,
    build: Callable[..., DetectionModel] | None = None,
    misfit: Callable[[DetectionModel], None] | None = None,
) -> DetectionModel:
    """The network that a checkpoint holds, in eval mode.

    The description may come from anywhere, so it cannot build much more than the tensors fill. They also decide where
    it leaves something open: the class count, the inner width of the class branches (fine-tuning keeps the width of the
    network it started from), and whether the network was folded.

    Args:
        yaml: `model.yaml` of the network that was saved.
        nc: number of classes; None for that of the tensors.
        names: class names; None for "0", "1", ….
        state: its state dict.
        file: where all this was read, for messages.
        build: called in the place of `build_model`, for a class of the user's.
        misfit: called with the network when the tensors do not fit; may raise an error that knows more.

    Raises:
        ModelError: the description is wrong, or far larger than the tensors.
        CheckpointError: the tensors do not fit it.
    """
    try:
        return _build_from_state(yaml, nc, names, state, build or build_model, misfit)
    except (ModelError, CheckpointError) as problem:
        if file is None or str(problem).startswith(f"{file}: "):
            raise
        # Shortened and on one line, since it may quote what the file says.
        raise type(problem)(f"{file}: {' '.join(str(problem)[:500].split())}") from None


def reset_weights(network: DetectionModel) -> None:
    """Random weights, all trainable, as in a network just built; in place. Folded, it stays folded."""
    head = network.head
    for module in reversed(list(network.modules())):  # a block may set values of the layers inside it
        if not isinstance(module, DFL) and hasattr(module, "reset_parameters"):
            module.reset_parameters()
            module.requires_grad_(True)
    for module in network.modules():  # its convolution is no weight but the numbers of the bins
        if isinstance(module, DFL):
            module.set_bins()
    if isinstance(head, Detect) and head.has_one2one and head.has_one2many:
        for name in head.branches:
            getattr(head, f"one2one_{name}").load_state_dict(getattr(head, name).state_dict())
    if hasattr(head, "init_biases"):
        head.init_biases()


def _build_from_state(
    yaml: Mapping[str, Any],
    nc: int | None,
    names: Mapping[int, str] | Sequence[str] | None,
    state: Mapping[str, Tensor],
    build: Callable[..., DetectionModel],
    misfit: Callable[[DetectionModel], None] | None,
) -> DetectionModel:
    prefix = head_prefix(state)
    last = None if prefix is None else state.get(f"{prefix}cv3.0.2.bias", state.get(f"{prefix}one2one_cv3.0.2.bias"))
    if last is not None:
        nc = last.numel()
    elif f"{prefix}{CLASS_EMBEDDING}" in state:
        nc = len(state[f"{prefix}{CLASS_EMBEDDING}"])
    with Budget(state):
        network = build(yaml, nc=nc, names=names)
        if prefix is not None and isinstance(network.head, Detect):
            _fit_head(network.head, state, prefix)
    # A head of two branch pairs of which one is left was folded, too (with GroupNorm the layers do not show it).
    pairs = [f"{prefix}{name}cv3.0.2.bias" in state for name in ("", "one2one_")]
    if is_folded(state) or (network.end2end and pairs.count(True) == 1):
        if any(pairs):
            network.use_end2end(f"{prefix}one2one_cv3.0.2.bias" in state)
        network.fuse(verbose=False)
    own = network.state_dict()
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    wrong = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing or unexpected or wrong:
        if misfit is not None:
            misfit(network)
        first = (
            f"{wrong[0]} is {tuple(state[wrong[0]].shape)} and should be {tuple(own[wrong[0]].shape)}"
            if wrong
            else f"{(missing or unexpected)[0]} is {'missing' if missing else 'not part of it'}"
        )
        raise CheckpointError(
            f"The weights do not fit {network.spec.file} (size {network.spec.scale.letter!r}): {len(missing)} tensors "
            f"are missing, {len(unexpected)} unexpected, {len(wrong)} of another shape; {first}."
        )
    network.load_state_dict(dict(state))
    return network.eval()


def _fit_head(head: Detect, state: Mapping[str, Tensor], prefix: str) -> None:
    for branch in CLASS_BRANCHES:
        width = class_width(state, prefix + branch)
        if width is not None and hasattr(head, branch):
            old_style = is_old_style(state, prefix + branch)
            if (width, old_style) != (getattr(head, branch)[0][-1].in_channels, head.old_style):
                setattr(head, branch, head.make_class_branches(width, old_style=old_style))
