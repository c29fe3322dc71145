"""Settings of training that the description of a network carries: `loss:`, `train:`, and settings at top level.

    loss: {box: 7.5, cls_loss: 0.4}      # gains
    train: {lr0: 0.005, close_mosaic: 20}
    epochs: 300

They are values of the origin "model file": above a preset, below everything that the user says. A run that starts from
the description reads them; weights made with it carry the settings that really ran.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sightline.config import names, table
from sightline.config.groups.loss import LossSettings
from sightline.config.settings import DEFAULTS
from sightline.config.stages import GAIN_NAMES
from sightline.errors import ModelError, SettingsError, UnknownModelError
from sightline.models.find import find_description, read_description

SECTIONS = ("loss", "train")
# What a run is, not how it is done; and settings whose names mean something else, or the same, in a description.
NOT_HERE = frozenset({"model", "cfg", "mode", "task", "resume"})
IN_LOSS = (*LossSettings.model_fields, "box_loss_weight", "cls_loss_weight", "dfl_loss_weight")


def settings_in_file(model: str) -> dict[str, Any]:
    """Setting → value, as the description `model` carries them; empty for weights.

    It is also empty where there is no such description: whoever builds the network says so.

    Raises:
        ModelError: a key is no training setting, or stands in two places; the message names file and key.
    """
    if not model.endswith((".yaml", ".yml")):
        return {}
    try:
        path = find_description(model).path
    except UnknownModelError:
        return {}
    data = read_description(path)
    return settings_in(data, str(path)) if isinstance(data, Mapping) else {}


def settings_in(data: Mapping[str, Any], file: str) -> dict[str, Any]:
    """The same, from what the file holds."""
    found: dict[str, Any] = {}
    top = {key: value for key, value in data.items() if is_setting(key)}
    for place, section in (("loss", _section(data, "loss", file)), ("train", _section(data, "train", file)), ("", top)):
        if place == "loss":
            section = _gains(section, file)
        for name, value in _current(section, place, file).items():
            if name in found and found[name] != value:
                raise ModelError(f"{file}: {name} is given twice, {found[name]} and {value}. Keep one.")
            found[name] = value
    return found


def is_setting(key: Any) -> bool:
    """Whether a key at the top level of a description is a training setting."""
    name = names.SYNONYMS.get(str(key), str(key))
    return name in DEFAULTS and "train" in table.ROW[name].modes and name not in {*NOT_HERE, "loss", "norm", "scale"}


def _section(data: Mapping[str, Any], name: str, file: str) -> Mapping[str, Any]:
    section = data.get(name)
    if section is None:
        return {}
    if not isinstance(section, Mapping) or not all(isinstance(key, str) for key in section):
        example = "{box: 7.5, cls: 0.5}" if name == "loss" else "{lr0: 0.005, epochs: 300}"
        raise ModelError(f"{file}: {name} is {section!r:.80}; it holds settings by name, such as {name}: {example}.")
    return section


def _gains(section: Mapping[str, Any], file: str) -> dict[str, Any]:
    """`loss:`, where a gain may be called like the item that it belongs to."""
    gains: dict[str, Any] = {}
    for key, value in section.items():
        name = GAIN_NAMES.get(key, key)
        if name not in IN_LOSS or name == "loss":
            others = [each for each in IN_LOSS if each != "loss" and each not in GAIN_NAMES.values()]
            raise ModelError(
                f"{file}: loss has {key!r}; it may have {', '.join((*GAIN_NAMES.values(), *GAIN_NAMES))} and the other "
                f"settings of the loss: {', '.join(others)}."
            )
        if name in gains:
            raise ModelError(f"{file}: loss has both {name} and {name}_loss. Keep one.")
        gains[name] = value
    return gains


def _current(section: Mapping[str, Any], place: str, file: str) -> dict[str, Any]:
    try:
        found = names.current_names(section, DEFAULTS)
    except SettingsError as problem:
        where = f"{file}: {place}" if place else file
        raise ModelError("\n".join(f"{where}: {line}" for line in str(problem).splitlines())) from None
    wrong = [name for name in found if name in NOT_HERE or "train" not in table.ROW[name].modes]
    if wrong:
        raise ModelError(
            f"{file}: {wrong[0]} under {place or 'the top level'} is no setting of training that a network can carry. "
            "Give it when the run is started."
        )
    return found
