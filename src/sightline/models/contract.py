"""What every network has, whether a description built it or a user wrote it by hand (docs/models.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from sightline.errors import ModelError

ATTRIBUTES = {
    "names": "class names, a list or {0: 'leaf', …}",
    "nc": "the number of classes",
    "stride": "what the sides of an image must be a multiple of",
    "loss": "a method loss(batch, preds=None) → (terms to be added up, {name: detached term})",
}


def check_network(network: nn.Module) -> None:
    """
    Raises:
        ModelError: something that every network has is missing, or has no sense; says what to add.
    """
    name = type(network).__name__
    lacking = [f"{each} ({meaning})" for each, meaning in ATTRIBUTES.items() if not hasattr(network, each)]
    if lacking:
        raise ModelError(
            f"The module {name} is not a network of sightline: it has no attribute {', '.join(lacking)}. Add it "
            "(docs/models.md, 'A network of your own'), make a network with sightline.models.build.build_model, or "
            "give a YAML file."
        )
    if not callable(network.loss):
        raise ModelError(f"{name}.loss is a {type(network.loss).__name__}; it must be {ATTRIBUTES['loss']}.")
    if not isinstance(network.nc, int) or len(network.names) != network.nc:
        raise ModelError(f"{name} has nc={network.nc!r} and {len(network.names)} names; give a name for each class.")
    try:
        stride = largest_stride(network)
    except (TypeError, ValueError):
        stride = 0
    if stride < 1:
        raise ModelError(f"{name}.stride is {network.stride!r:.80}; it must be a number of pixels, or several.")


def check_task(network: Any, task: str) -> None:
    """
    Raises:
        ModelError: the head's output is for another task; read as that of this one it would be nonsense.
    """
    other = getattr(head_of(network), "task", task)
    if task and other != task:  # a part of a user's own need not say for which it is
        raise ModelError(
            f"The network is for task={other} ({type(head_of(network)).__name__}), but it was given to a part for "
            f"task={task}. Use the parts of its own task; YOLO(…) chooses them."
        )


def head_of(network: Any) -> Any:
    """The last of the layers under `model`, which has the switches of a head; None for a network of another form."""
    layers = getattr(network, "model", None)
    return layers[-1] if isinstance(layers, (nn.Sequential, nn.ModuleList)) and len(layers) else None


def largest_stride(network: Any) -> int:
    """Pixels per cell of the coarsest level."""
    return int(max(strides_of(network)))


def strides_of(network: Any) -> list[float]:
    """`stride` as numbers; a network of one's own may have a single one."""
    stride = network.stride
    values = stride.flatten().tolist() if isinstance(stride, Tensor) else stride
    return [float(each) for each in (values if isinstance(values, Iterable) else [values])]


def named_classes(names: Any) -> dict[int, str]:
    """Class names as index → name, also from a list."""
    return {int(i): str(name) for i, name in (names.items() if hasattr(names, "items") else enumerate(names))}


def is_described(network: Any) -> bool:
    """Whether it says by which description it can be built again."""
    return bool(getattr(network, "yaml", None))
