"""Training a network that a user made and no description makes again: a copy of it trains."""

from __future__ import annotations

from typing import Any

from torch import nn

from sightline.errors import ModelError, SettingValueError
from sightline.models.contract import check_network, is_described, named_classes
from sightline.models.copies import copy_of
from sightline.models.rebuild import is_changed


def must_be_copied(network: nn.Module) -> str:
    """Why no description makes this network again, so that a copy of it trains; "" where one does."""
    if not is_described(network):
        return "no YAML describes it"
    try:
        changed = is_changed(network)
    except ModelError as problem:
        return f"it cannot be built again ({problem})"
    return f"it was changed after it was built ({changed[0]})" if changed else ""


def copy_for(network: nn.Module, data: dict[str, Any], *, reason: str, fresh: bool) -> nn.Module:
    """The copy that trains.

    Args:
        data: of which the network must know the classes.
        reason: what `must_be_copied` found.
        fresh: whether the weights should be new ones (pretrained=False).

    Raises:
        ModelError: it has another number of classes, or lacks what every network has.
        SettingValueError: its weights cannot be made anew.
    """
    check_network(network)
    name = type(network).__name__
    if fresh:
        raise SettingValueError(
            f"pretrained=False: the network {name} can only train from the weights that it has: {reason}. "
            "Make a new one, and leave pretrained out."
        )
    if network.nc != data["nc"]:
        raise ModelError(
            f"The network {name} is for nc={network.nc} classes, but the data has {data['nc']}: "
            f"{', '.join(named_classes(data['names']).values()):.200}. It cannot be fitted to them: {reason}. "
            f"Make it for {data['nc']} classes."
        )
    return copy_of(network)  # without the criterion of an earlier run
