"""The setting `backbone_weights`: the backbone of a classifier in a run, and whether a backbone knows anything yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from sightline import download
from sightline.artifacts.weights_file import read_weights
from sightline.errors import ModelError
from sightline.log import LOGGER
from sightline.models.backbone_weights import in_names_of
from sightline.models.weights import transfer
from sightline.train.ema import unwrap
from sightline.train.freeze import backbone_length

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer


def put_in_force(trainer: BaseTrainer) -> None:
    """Load the file into the network of a new run, and say what of it was loaded and what was not.

    Raises:
        MissingFileError, CheckpointError: there is no such file, or it cannot be read safely.
        SettingValueError: the network does not say where its backbone ends.
        ModelError: nothing of it fits.
    """
    file = trainer.args.backbone_weights
    if file is None or trainer.checkpoint is not None:  # a run that goes on has weights of its own
        return
    network: Any = unwrap(trainer.model)
    given = f"backbone_weights={file}"
    names = tensors_of(network, backbone_length(network, given))
    source = read_weights(download.fetch_weights(file)).state
    state = in_names_of(network.model, source)
    state = _only(source if state is None else state, names)
    report = transfer(network, state)
    if not report.copied:
        raise ModelError(
            f"{given}: nothing of it fits the backbone of {getattr(network, 'yaml_file', trainer.args.model)}. There: "
            f"{', '.join(list(source)[:3])}; here: {', '.join(names[:3])}. Known are weights of torchvision and timm: "
            "a ResNet for rtdetr-resnet50 and -resnet101, hgnetv2_b4 for rtdetr-l, hgnetv2_b5 for rtdetr-x; and those "
            "of a network with the same layers."
        )
    trainer.loaded_tensors |= set(report.copied)
    fresh = [name for name in names if name not in report.copied]
    left = [name for name in source if name not in state] if len(state) < len(source) else []
    line = f"{len(report.copied)} of the backbone's {len(names)} tensors loaded"
    trainer.in_force["backbone_weights"] = line
    LOGGER.info(
        f"{given}: {line}; still random: {_some(fresh)}; in the file, but not of this backbone: "
        f"{len(source) - len(report.copied)}{f' ({_some(left)})' if left else ''}."
    )


def tensors_of(network: Any, length: int) -> list[str]:
    """Names of the parameters and statistics of the first `length` layers, without counters of batches."""
    prefixes = tuple(f"model.{index}." for index in range(length))
    return [
        name for name in network.state_dict() if name.startswith(prefixes) and not name.endswith("num_batches_tracked")
    ]


def is_loaded(network: nn.Module, loaded: Collection[str]) -> bool:
    """Whether most of the backbone's tensors are among those that came from somewhere."""
    names = tensors_of(network, backbone_length(network, "backbone"))
    return 2 * len(set(names) & set(loaded)) > len(names)


def _only(state: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    wanted = set(names)
    return {name: value for name, value in state.items() if name in wanted}


def _some(names: list[str], shown: int = 4) -> str:
    if not names:
        return "nothing"
    return ", ".join(names[:shown]) + (f", … ({len(names)} in all)" if len(names) > shown else "")
