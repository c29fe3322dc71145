"""One way in for every kind of weights file: ours, the reference's, bare state dicts, safetensors."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.artifacts.archive import DAMAGED, Unreadable, regular_file_size
from sightline.artifacts.checkpoint import FORMAT
from sightline.artifacts.foreign import MAX_TENSORS, ForeignFile, class_names, find_model, plain_entries
from sightline.artifacts.inert_values import Record, TensorRecord
from sightline.errors import CheckpointError, MissingInputError
from sightline.models.origin import Origin, read_origin

# Where programs put a state dict: averaged weights first, they are what a run is judged by.
PLACES = ("ema", "model", "model_state_dict", "state_dict")
DESCRIPTION = ("yaml", "names", "nc", "task", "args")
WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile
MAX_WRAPPERS = 10  # around each other

SUFFIXES = (".pt", ".pth", ".safetensors", "")
ALLOWED = "Allowed: .pt files of sightline, of Ultralytics or with a state dict, and .safetensors."


@dataclass
class WeightsFile:
    """Weights, and what the file says about their network."""

    state: dict[str, Tensor]  # floating entries as float32, on the CPU
    kind: str  # "sightline", "reference", "state_dict" or "safetensors"
    path: Path
    yaml: dict[str, Any] | None = None  # the network, layer by layer
    names: dict[int, str] | None = None
    nc: int | None = None
    stride: Tensor | None = None
    origin: Origin | None = None  # the class of the network, as far as the file names it
    task: str | None = None
    args: dict[str, Any] | None = None  # settings of the run that made it
    meta: dict[str, Any] = field(default_factory=dict)  # epoch, date, version, metrics, … as far as the file has them


def read_weights(path: str | os.PathLike[str]) -> WeightsFile:
    """Read a weights file of any known kind. Nothing in it is run.

    Raises:
        MissingInputError: there is no such file.
        CheckpointError: it is damaged, unsafe or of an unknown kind.
    """
    path = Path(path)
    if not os.path.lexists(path):
        raise MissingInputError(f"There is no weights file {path}.")
    try:
        weights = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
        if not weights.state:
            raise Unreadable("there is no tensor in it", advice=ALLOWED)
    except Unreadable as found:
        of_another_kind = found.advice == DAMAGED and path.suffix not in SUFFIXES
        advice = ALLOWED if of_another_kind else found.advice
        raise CheckpointError(f"{path} cannot be used as weights: {found}. {advice}") from None
    return weights


def _read_torch(path: Path) -> WeightsFile:
    with ForeignFile(path) as file:
        if isinstance(file.content, dict) and file.content.get("format") == FORMAT:
            return _ours(path, file)
        model = find_model(file)
        if model is None:
            return _state_dict(path, file)
    return WeightsFile(
        state=model.state,
        kind="reference",
        path=path,
        yaml=model.yaml,
        names=model.names,
        nc=model.nc,
        stride=model.stride,
        task=model.task,
        args=model.args,
        origin=_class_of(model.class_name),
        meta={"class": model.class_name, **model.meta},
    )


def _class_of(name: str) -> Origin | None:
    """The class of a network that was pickled as a whole; those of the reference mean our own."""
    module, _, kind = name.rpartition(".")
    return None if module.startswith("ultralytics.") else read_origin({"class": f"{module}:{kind}"})


def _ours(path: Path, file: ForeignFile) -> WeightsFile:
    content = file.content
    state, stride = content.get("model"), content.get("stride")
    if not isinstance(state, dict):
        raise Unreadable("it is a sightline file without weights", advice=ALLOWED)
    return WeightsFile(
        state=_tensors(state, file.tensor),
        kind="sightline",
        path=path,
        stride=file.tensor(stride) if isinstance(stride, TensorRecord) else None,
        origin=read_origin(file.plain(content.get("network"))),
        **_description(content, file),
        meta=plain_entries(content, file, without=("model", "run", "network", *DESCRIPTION)),
    )


def _state_dict(path: Path, file: ForeignFile) -> WeightsFile:
    """A dict of tensors, or a dict with one in a usual place."""
    content = file.content
    if isinstance(content, Record):
        raise Unreadable(f"it holds an object of {content.name}, which is no network", advice=ALLOWED)
    if not isinstance(content, dict):
        raise Unreadable(f"it holds a {type(content).__name__}, and no weights", advice=ALLOWED)
    found, surroundings = _find_state(content)
    if found is None:
        keys = ", ".join(repr(key) for key in list(content)[:8])
        raise Unreadable(
            f"it has no weights, neither at the top nor under {', '.join(PLACES)}; its keys are {keys:.300}",
            advice=ALLOWED,
        )
    return WeightsFile(
        state=strip_prefixes(_tensors(found, file.tensor)),
        kind="state_dict",
        path=path,
        **_description(surroundings, file),
        meta=plain_entries(surroundings, file, without=(*PLACES, "optimizer", *DESCRIPTION)),
    )


def _description(content: dict[Any, Any], file: ForeignFile) -> dict[str, Any]:
    """What a checkpoint says about its network, where it is what it should be."""
    values = {key: file.plain(content.get(key)) for key in DESCRIPTION}
    kinds = {"yaml": dict, "nc": int, "task": str, "args": dict}
    found = {key: values[key] if isinstance(values[key], kind) else None for key, kind in kinds.items()}
    return {**found, "names": class_names(values["names"])}


def _find_state(content: dict[Any, Any]) -> tuple[dict[Any, Any] | None, dict[Any, Any]]:
    """The state dict and, if it lies in one, the checkpoint around it."""
    for place in PLACES:
        inner = content.get(place)
        if isinstance(inner, dict):
            if isinstance(inner.get("module"), dict):  # averaged models of some trainers keep theirs one level down
                inner = inner["module"]
            if _has_tensors(inner):
                return inner, content
    return (content, {}) if _has_tensors(content) else (None, content)


def _has_tensors(value: dict[Any, Any]) -> bool:
    return any(isinstance(item, TensorRecord) for item in value.values())


def _tensors(found: Mapping[Any, Any], tensor: Callable[[TensorRecord], Tensor]) -> dict[str, Tensor]:
    return {str(name): tensor(record) for name, record in found.items() if isinstance(record, TensorRecord)}


def _read_safetensors(path: Path) -> WeightsFile:
    from safetensors import SafetensorError, safe_open

    regular_file_size(path)  # a pipe would be waited for
    try:
        with safe_open(path, framework="pt") as file:
            if len(file.keys()) > MAX_TENSORS:
                raise Unreadable(f"it names more than {MAX_TENSORS} tensors, and no model needs that many")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            meta = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise Unreadable(f"it is no safetensors file ({error!s:.200})") from error
    names = class_names(_json(meta.get("names")))
    return WeightsFile(
        state=strip_prefixes(_float32(state)),
        kind="safetensors",
        path=path,
        names=names,
        task=meta.get("task"),
        meta=meta,
    )


def _json(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _float32(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        name: value.to(torch.float32) if value.is_floating_point() else value
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bring keys to the form `model.<layer>.…`, whatever wrapper the network was in when it was saved."""
    for _ in range(MAX_WRAPPERS):  # each copies all names, and a name may be long
        prefix = next((p for p in WRAPPERS if all(name.startswith(p) for name in state)), None)
        if prefix is None and all(name.startswith("model.model.") for name in state):
            prefix = "model."
        if prefix is None and all(name.startswith(("model.module.", "model._orig_mod.")) for name in state):
            prefix = "model."
        if prefix is None:
            break
        state = {name[len(prefix) :]: value for name, value in state.items()}
    if state and all(re.match(r"\d+\.", name) for name in state):
        state = {f"model.{name}": value for name, value in state.items()}
    return state
