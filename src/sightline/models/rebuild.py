"""From what a checkpoint holds to its network again: of the class that it had, where this program has that class."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import CheckpointError, ModelError
from sightline.log import LOGGER
from sightline.models.budget import Budget
from sightline.models.build import build_from_state, build_model
from sightline.models.contract import check_network, is_described, named_classes, strides_of
from sightline.models.copies import copy_of
from sightline.models.network import DetectionModel
from sightline.models.origin import Origin, arguments_of, class_path, module_classes, origin_of
from sightline.models.own_class import find_class

SHOWN = 3  # names in a message
GIVEN = ("cfg", "ch", "nc", "names", "verbose", "scale")  # of a constructor: known from the rest of the checkpoint

_told: set[tuple[str, str]] = set()  # (file name, class): one run loads its files several times


def plain_description(network: Any) -> dict[str, Any]:
    """What a checkpoint holds of a network beside its tensors: enough to make it again."""
    return {
        "yaml": getattr(network, "yaml", None),
        "names": named_classes(network.names),
        "nc": int(network.nc),
        "stride": torch.tensor(strides_of(network), dtype=torch.float32),
        "network": origin_of(network).to_plain(),
    }


def rebuild(
    yaml: Mapping[str, Any] | None,
    *,
    nc: int | None,
    names: Mapping[int, str] | Sequence[str] | None,
    state: Mapping[str, Tensor],
    origin: Origin | None,
    file: str | Path,
    like: nn.Module | None = None,
) -> nn.Module:
    """The network of a checkpoint, in eval mode.

    With a description it is built from that: as the class that it had if this program has it, else as the ordinary
    class, and a note says once what that leaves out. Without one its class is needed.

    Args:
        yaml: the description; None for a network that none describes.
        nc: number of classes.
        names: class names.
        state: its tensors.
        origin: what the file says of its class.
        file: where all this was read, for messages.
        like: the network at hand that the file was written from; where the file alone is not enough, a copy of it.

    Raises:
        ModelError: the class is not at hand, or it makes another network now; says what to put where.
        CheckpointError: the tensors do not fit the description.
    """
    try:
        if yaml is None:
            return _own_network(nc, names, state, origin, file, like)
        return _described(yaml, nc, names, state, origin, file, like)
    except (ModelError, CheckpointError):
        # Equal names and shapes are not enough: another activation has no tensors at all.
        same = like is not None and (
            origin is None or (class_path(type(like)) == origin.class_path and not changed_layers(origin.modules, like))
        )
        twin = copy_with(like, state) if like is not None and same else None
        if twin is None:
            raise
        return twin


def copy_with(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module | None:
    """A copy of a network with other weights, in eval mode; None if they are not just its own."""
    if _misfits(network, state):
        return None
    twin = copy_of(network)
    twin.load_state_dict(dict(state))
    return twin.eval()


def own_class_of(origin: Origin | None, file: str | Path, like: nn.Module | None = None) -> type[DetectionModel] | None:
    """The user's subclass of DetectionModel that a checkpoint names; None, with a note, if there is none to be had."""
    if origin is None or not origin.is_own:
        return None
    found = find_class(origin, DetectionModel, known=() if like is None else (type(like),))
    if found.kind is None and ((Path(file).name, origin.class_path) not in _told):
        _told.add((Path(file).name, origin.class_path))
        code = origin.module.replace(".", "/")
        where = (
            f"Define {origin.name} in your script before you load"
            if origin.module == "__main__"
            else f"Put {code}.py beside your script, or import {origin.module} before you load,"
        )
        LOGGER.warning(
            f"{file}: its network was a {origin.name} {origin.place}, which is not at hand: {found.reason}. "
            "It is loaded as DetectionModel: same layers, weights and names, but without what that class changed "
            f"(loss, forward, predict). {where} to use it."
        )
    return None if found.kind is None else found.kind


def build_as(
    kind: type[nn.Module],
    cfg: Any,
    *,
    nc: int | None,
    names: Any,
    ch: int | None = None,
    arguments: Any = None,
    **own: Any,
) -> DetectionModel:
    """A freshly initialised network of a user's subclass of DetectionModel.

    Args:
        kind: the subclass.
        cfg: the description.
        nc, names, ch: as for `build_model`.
        arguments: what else its constructor was given.
        own: as for `build_model`.

    Raises:
        ModelError: its constructor does not take that.
    """
    known = {"cfg": cfg, "ch": ch, "nc": nc, "names": names, "verbose": False}
    more = {name: value for name, value in (arguments or {}).items() if name not in GIVEN}
    parameters = inspect.signature(kind).parameters
    takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    given = {name: value for name, value in {**known, **more, **own}.items() if takes_all or name in parameters}
    try:
        network = kind(**given)
    except ModelError:
        raise
    except Exception as problem:
        raise ModelError(
            f"{kind.__name__}({', '.join(given)}) fails with {type(problem).__name__}: {problem!s:.200}. "
            "The constructor of a network is called like that of DetectionModel: (cfg, ch=None, nc=None, verbose=True, "
            "names=None)."
        ) from problem
    if names is not None and "names" not in given:
        network.names = named_classes(names)
    return network  # type: ignore[return-value]


def changed_layers(recorded: Mapping[str, str], network: nn.Module) -> list[str]:
    """Layers that are not what the description builds: "model.3.act is a ReLU, not a SiLU", outermost first.

    Compared are the classes of all modules under `model`; other children of a network may be anything.
    """
    built = module_classes(network)
    differing = sorted(
        (name for name in {*recorded, *built} if name.startswith("model.") and recorded.get(name) != built.get(name)),
        key=lambda name: (name.count("."), name),
    )
    outermost: list[str] = []
    for name in differing:
        if not any(name.startswith(f"{above}.") for above in outermost):
            outermost.append(name)
    return [
        f"{name} is {_article(recorded.get(name))}, where the description has {_article(built.get(name))}"
        for name in outermost
    ]


def is_changed(network: Any) -> list[str]:
    """What a user changed in a network after it was built from its description; empty for nothing."""
    kind = type(network)
    if not is_described(network):
        return []
    built = build_as(kind, network.yaml, nc=network.nc, names=None, arguments=arguments_of(network)[0])
    own = network.state_dict()
    if any(key not in own for key in built.state_dict()) and network.is_fused():
        built.fuse(verbose=False)
    found = changed_layers(module_classes(network), built)
    there = built.state_dict()
    more = [key for key in own if key not in there]
    return found or [f"{name} is not part of what the description builds" for name in more[:1]]


def check_layers(origin: Origin | None, network: nn.Module, file: str | Path, cause: str = "") -> None:
    """
    Raises:
        ModelError: the network of the file was changed after its description had built it; says how to use the file.
    """
    changed = changed_layers(origin.modules, network) if origin is not None and origin.modules else []
    if not changed and not cause:
        return
    what = _some(changed) if changed else cause
    raise ModelError(
        f"{file}: its network was changed after it was built, and its description does not say how: {what}. "
        f"{f'{cause} ' if cause and changed else ''}Build the network the same way in your script, and pass it: "
        f"YOLO(network).load({str(file)!r})."
    )


def _described(
    yaml: Mapping[str, Any],
    nc: int | None,
    names: Any,
    state: Mapping[str, Tensor],
    origin: Origin | None,
    file: str | Path,
    like: nn.Module | None,
) -> nn.Module:
    kind = own_class_of(origin, file, like)

    def build(cfg: Any, *, nc: int | None, names: Any) -> DetectionModel:
        if kind is None:
            return build_model(cfg, nc=nc, names=names)
        return build_as(kind, cfg, nc=nc, names=names, arguments=origin.arguments if origin else None)

    def misfit(network: nn.Module) -> None:
        """Called before the error of tensors that do not fit: a better one, where the file tells the reason."""
        wrong = _misfits(network, state)
        changed = changed_layers(origin.modules, network) if origin is not None else []
        outside = (
            []
            if origin is None
            else [
                f"{name} is {_article(path)}"
                for name, path in origin.modules.items()
                if "." not in name and name != "model" and any(key.startswith(f"{name}.") for key in wrong)
            ]
        )
        if changed or outside:
            cause = f"Tensors that do not fit: {_some(wrong)}."
            check_layers(origin, network, file, cause if changed else f"{_some(outside)}; {cause[:-1]}")

    network = build_from_state(yaml, nc=nc, names=names, state=state, file=file, build=build, misfit=misfit)
    check_layers(origin, network, file)
    return network


def _own_network(
    nc: int | None,
    names: Any,
    state: Mapping[str, Tensor],
    origin: Origin | None,
    file: str | Path,
    like: nn.Module | None,
) -> nn.Module:
    if origin is None:
        raise CheckpointError(f"{file} holds tensors only, not which network they belong to.")
    found = find_class(origin, known=() if like is None else (type(like),))
    pass_it = f"pass it: YOLO({origin.call}).load({str(file)!r})"
    if found.kind is None:
        if origin.module == "__main__" or "<locals>" in origin.name:
            place = f"Define {origin.name.rpartition('.')[2]} in your script before you load {file}, or {pass_it}"
        else:
            place = f"Put {origin.module.replace('.', '/')}.py beside your script, or define it and {pass_it}"
        raise ModelError(
            f"{file} holds a network of class {origin.class_path} made with {origin.call}, and no YAML describes it. "
            f"The class is not at hand: {found.reason}. {place}."
        )
    if origin.arguments is None:
        raise ModelError(
            f"{file} holds a network of class {origin.class_path}, but not what it was made with: {origin.missing}. "
            f"Make it as you did for training, and {pass_it}."
        )
    try:
        with Budget(state):
            network = found.kind(**origin.arguments)
    except Exception as problem:
        raise ModelError(
            f"{file}: {origin.call} {origin.place} fails with {type(problem).__name__}: {problem!s:.200}. Make the "
            f"network as you did for training, and pass it: YOLO(network).load({str(file)!r})."
        ) from problem
    load_strictly(network, state, file, what=origin.call)
    network.names = named_classes(names) if names is not None else network.names
    check_network(network)
    return network.eval()


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], file: str | Path, *, what: str) -> None:
    """
    Raises:
        ModelError: a tensor is missing, left over or of another shape.
    """
    wrong = _misfits(network, state)
    if wrong:
        raise ModelError(
            f"{file}: {len(wrong)} of {len(state)} tensors do not fit the network that {what} makes: {_some(wrong)}. "
            f"Its code is another one than at training. Make the network of then, and pass it: "
            f"YOLO(network).load({str(file)!r})."
        )
    network.load_state_dict(dict(state))


def _misfits(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Tensors that only one of them has, or that differ in shape."""
    own = network.state_dict()
    return [key for key in {**own, **state} if key not in own or key not in state or own[key].shape != state[key].shape]


def _some(names: Sequence[str]) -> str:
    shown = "; ".join(names[:SHOWN]) if any(" " in name for name in names) else ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown}, … ({len(names)} in all)"


def _article(kind: str | None) -> str:
    return "nothing" if kind is None else f"a {kind}"
