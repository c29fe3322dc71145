"""From a module or a weights file to a network."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from sightline.artifacts.weights_file import read_weights
from sightline.errors import CheckpointError, ModelError
from sightline.models.build import build_from_state


def load_network(model: nn.Module | str | Path) -> nn.Module:
    """The network itself, or the one that a weights file describes.

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
    weights = read_weights(model)
    if weights.yaml is None:
        raise CheckpointError(
            f"{model} holds tensors only, not which network they belong to. "
            f"Build the network first: YOLO('yolo26n.yaml').load('{model}')."
        )
    return build_from_state(weights.yaml, nc=weights.nc, names=weights.names, state=weights.state, file=model)
