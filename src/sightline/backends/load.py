"""From a module or a weights file to a network."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from sightline.artifacts.weights_file import WeightsFile, read_weights
from sightline.errors import CheckpointError, ModelError
from sightline.models.rebuild import rebuild


def load_network(model: nn.Module | str | Path, *, like: nn.Module | None = None) -> nn.Module:
    """The network itself, or the one that a weights file describes.

    Args:
        model: a network, or a file.
        like: the network that the file was written from, if it is at hand: see `rebuild`.

    Raises:
        CheckpointError: the file holds tensors only.
        ModelError: something else was given.
    """
    if isinstance(model, nn.Module):
        return model
    if not isinstance(model, (str, Path)):
        raise ModelError(
            f"model is a {type(model).__name__}; give a network (nn.Module) or the path of a weights file."
        )
    return network_of(read_weights(model), like=like)


def network_of(weights: WeightsFile, *, like: nn.Module | None = None) -> nn.Module:
    """The network that was read from a file, in eval mode.

    Raises:
        CheckpointError: the file holds tensors only, or they do not fit.
        ModelError: its class is not at hand, or it was changed after it was built.
    """
    model = weights.path
    if weights.yaml is None and weights.origin is None:
        raise CheckpointError(
            f"{model} holds tensors only, not which network they belong to. "
            f"Build the network first: YOLO('yolo26n.yaml').load('{model}')."
        )
    return rebuild(
        weights.yaml,
        nc=weights.nc,
        names=weights.names,
        state=weights.state,
        origin=weights.origin,
        file=model,
        like=like,
    )
