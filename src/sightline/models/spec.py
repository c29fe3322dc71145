"""A network's description: YAML rows → checked `LayerSpec`s, in our layout or the reference's, and back.

Both layouts are described, with an example each, in docs/models.md.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sightline.config.settings import DEFAULTS
from sightline.errors import ModelError
from sightline.log import LOGGER
from sightline.models import layers, training_settings
from sightline.models.layers import LATER, LAYERS, Scale

SECTIONS = ("backbone", "head")
# Keys beside the two sections. Others are refused, or kept and named in a warning: a misspelt one would change nothing
# unseen.
KNOWN_KEYS = (
    *("nc", "channels", "scales", "scale", "end2end", "reg_max", "activation", "norm", "names", "yaml_file"),
    *("depth_multiple", "width_multiple", "kpt_shape", "task", "ch"),
)
NORMS = ("bn", "gn")  # BatchNorm, which blocks have anyway, or GroupNorm in its place
DESCRIPTION_DEFAULTS = {"nc": 80}
ROW_KEYS = ("block", "from", "repeats", "name")
MAX_ROWS = 1000  # the longest published description has 40
NOT_GIVEN = "None"  # an argument left at its default, as the reference's files write it


@dataclass(frozen=True)
class LayerSpec:
    """One row: which block, fed by what, how often, with which nominal (unscaled) arguments."""

    block: str
    source: int | tuple[int, ...]  # −1 the layer before; ≥ 0 a layer's index; a tuple for several
    repeats: int
    arguments: Mapping[str, Any]
    where: str  # for messages: file, section and row

    def row(self) -> list[Any]:
        """[from, repeats, block, arguments] of the reference's layout; what it has no place for comes last, by name."""
        kind = layers.find_layer(self.block)
        order = kind.arguments
        last = max((position for position, name in enumerate(order) if name in self.arguments), default=-1)
        values = [self.arguments.get(name, kind.fixed.get(name, NOT_GIVEN)) for name in order[: last + 1]]
        named = {name: value for name, value in self.arguments.items() if name not in order}
        source = list(self.source) if isinstance(self.source, tuple) else self.source
        return [source, self.repeats, self.block, [*values, named] if named else values]


@dataclass(frozen=True)
class ModelSpec:
    """A whole description, checked row by row; whether the layers fit together shows when it is built."""

    backbone: tuple[LayerSpec, ...]
    head: tuple[LayerSpec, ...]
    nc: int
    channels: int
    scales: Mapping[str, Scale]
    scale: Scale
    end2end: bool
    reg_max: int
    file: str
    extra: Mapping[str, Any] = field(default_factory=dict)  # further keys, kept as they are
    kpt_shape: tuple[int, int] | None = None  # (K, D) of a pose head

    @property
    def layers(self) -> tuple[LayerSpec, ...]:
        return self.backbone + self.head

    def with_changes(
        self, *, nc: int | None, channels: int | None, kpt_shape: Sequence[int] | None = None
    ) -> ModelSpec:
        return replace(
            self,
            nc=self.nc if nc is None else nc,
            channels=self.channels if channels is None else channels,
            kpt_shape=self.kpt_shape if kpt_shape is None else _keypoints(kpt_shape, self.file),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values in the reference's layout: what `model.yaml` and checkpoints hold. Reads back as it was."""
        scales = {letter: [each.depth, each.width, each.max_channels] for letter, each in self.scales.items()}
        return {
            "nc": self.nc,
            "end2end": self.end2end,
            "reg_max": self.reg_max,
            **({} if self.kpt_shape is None else {"kpt_shape": list(self.kpt_shape)}),
            "scales": scales,
            **self.extra,
            "backbone": [layer.row() for layer in self.backbone],
            "head": [layer.row() for layer in self.head],
            "scale": self.scale.letter,
            "yaml_file": self.file,
            "channels": self.channels,
        }


def read_spec(
    data: Any, *, file: str | None = None, name: str | None = None, scale: str | None = None, strict: bool = False
) -> ModelSpec:
    """Check a description.

    Args:
        data: what the YAML file holds, or `model.yaml` of a network.
        file: where it was read, for messages.
        name: what it was asked for by (`yaml_file`); None for the description's own.
        scale: the letter of the size; None for the description's own `scale`, else its first.
        strict: refuse keys that are neither a description's nor settings of training, which `training_settings.py`
            reads. Descriptions in checkpoints of other programs have keys of their own: they are named in a warning.

    Raises:
        ModelError: naming file and row.
    """
    if not isinstance(data, Mapping):
        found = "nothing" if data is None else f"a {type(data).__name__}"
        raise ModelError(f"{file or 'the model'} holds {found}, not the keys nc, backbone and head.")
    name = str(name or data.get("yaml_file") or file or "the model's description")
    file = str(file or name)
    missing = [key for key in SECTIONS if not isinstance(data.get(key), Sequence) or not data.get(key)]
    if missing:
        raise ModelError(
            f"{file}: no rows under {' and '.join(missing)}. A model has a backbone and a head; see docs/models.md."
        )
    long = [key for key in SECTIONS if len(data[key]) > MAX_ROWS]
    if long:
        raise ModelError(f"{file}: {len(data[long[0]])} rows under {long[0]}; at most {MAX_ROWS} are read.")
    known = (*KNOWN_KEYS, *SECTIONS, *training_settings.SECTIONS)
    unknown = [str(key) for key in data if key not in known and not training_settings.is_setting(key)]
    if unknown and strict:
        near = difflib.get_close_matches(unknown[0], [*known, *DEFAULTS], n=3, cutoff=0.6)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ModelError(
            f"{file}: {unknown[0]} is no key of a description and no setting of training.{hint} Keys: "
            f"{', '.join((*KNOWN_KEYS, *SECTIONS, *training_settings.SECTIONS))}."
        )
    if unknown:
        LOGGER.warning(f"{file}: {', '.join(unknown)} has no effect; known keys: {', '.join((*KNOWN_KEYS, *SECTIONS))}")
    nc, channels = data.get("nc", 80), data.get("channels", data.get("ch", 3))
    reg_max, end2end = data.get("reg_max", 16), data.get("end2end", False)
    for key, value in (("nc", nc), ("channels", channels), ("reg_max", reg_max)):
        if not _is_count(value):
            raise ModelError(f"{file}: {key} is {value!r}; it must be a whole number of 1 or more.")
    if not isinstance(end2end, bool):
        raise ModelError(f"{file}: end2end is {end2end!r}; it must be true or false.")
    if data.get("norm", "bn") not in NORMS:
        raise ModelError(f"{file}: norm is {data['norm']!r}; it must be {' or '.join(NORMS)}.")
    scales = _scales(data, file)
    kpt_shape = None if data.get("kpt_shape") is None else _keypoints(data["kpt_shape"], file)
    backbone, head = _rows(data, file)
    kept = {key: data[key] for key in data if key in ("activation", "norm", "names", "task") or key in unknown}
    return ModelSpec(
        backbone=backbone,
        head=head,
        nc=nc,
        channels=channels,
        scales=scales,
        scale=_chosen(scales, data.get("scale") if scale is None else scale, file),
        end2end=end2end,
        reg_max=reg_max,
        file=name,
        extra=kept,
        kpt_shape=kpt_shape,
    )


def _scales(data: Mapping[str, Any], file: str) -> dict[str, Scale]:
    given = data.get("scales")
    if not given:
        multiples = (data.get("depth_multiple", 1.0), data.get("width_multiple", 1.0))
        return {"": _scale("", [*multiples, float("inf")], file)}
    if not isinstance(given, Mapping):
        raise ModelError(f"{file}: scales is {given!r}; give letters, such as  n: [0.50, 0.25, 1024].")
    return {str(letter): _scale(str(letter), values, file) for letter, values in given.items()}


def _scale(letter: str, values: Any, file: str) -> Scale:
    names = ("depth", "width", "max_channels")
    if isinstance(values, Mapping):
        values = [values.get(name) for name in names] if set(values) == set(names) else None
    fits = isinstance(values, Sequence) and len(values) == 3
    if not fits or not all(
        isinstance(each, (int, float)) and not isinstance(each, bool) and each > 0 for each in values
    ):
        raise ModelError(f"{file}: scale {letter} must give depth, width and max_channels, all above 0.")
    return Scale(letter, *values)


def _chosen(scales: Mapping[str, Scale], letter: Any, file: str) -> Scale:
    first = next(iter(scales))
    if letter in (None, ""):
        if first and letter is None:
            LOGGER.info(f"{file}: no size given, so it is built as {first!r}. There is: {', '.join(scales)}.")
        return scales[first]
    if not isinstance(letter, str) or letter not in scales:
        raise ModelError(f"{file} has no size {letter!r}. There is: {', '.join(filter(None, scales)) or 'only one'}.")
    return scales[letter]


def _keypoints(value: Any, file: str) -> tuple[int, int]:
    """(K, D) of a pose head."""
    fits = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    if not fits or not all(_is_count(each) for each in value) or value[1] not in (2, 3):
        raise ModelError(
            f"{file}: kpt_shape is {value!r}; give [K, 2] for K keypoints of x and y, or [K, 3] with visibility."
        )
    return int(value[0]), int(value[1])


def _rows(data: Mapping[str, Any], file: str) -> tuple[tuple[LayerSpec, ...], tuple[LayerSpec, ...]]:
    names: dict[str, int] = {}
    sections: list[tuple[LayerSpec, ...]] = []
    index = 0
    for section in SECTIONS:
        rows = []
        for number, row in enumerate(data[section], 1):
            where = f"{file}: {section} row {number} (layer {index})"
            rows.append(_row(row, where, index, names, data))
            if layers.find_layer(rows[-1].block).head and (section, number) != (SECTIONS[-1], len(data[section])):
                raise ModelError(f"{where}: {rows[-1].block} is a head, which must be the last row of all.")
            if isinstance(row, Mapping) and "name" in row:
                if str(row["name"]) in names:
                    raise ModelError(
                        f"{where}: the name {row['name']!r} is that of layer {names[str(row['name'])]} already."
                    )
                names[str(row["name"])] = index
            index += 1
        sections.append(tuple(rows))
    return sections[0], sections[1]


def _row(row: Any, where: str, index: int, names: Mapping[str, int], data: Mapping[str, Any]) -> LayerSpec:
    if isinstance(row, Mapping):
        source, repeats, block = row.get("from", -1), row.get("repeats", 1), row.get("block")
        given: Any = {str(key): value for key, value in row.items() if key not in ROW_KEYS}
    elif isinstance(row, Sequence) and not isinstance(row, str) and len(row) == 4:
        source, repeats, block, given = row
    else:
        raise ModelError(
            f"{where}: {row!r} is neither [from, repeats, block, arguments] nor {{block: …, channels: …}}."
        )
    block = layers.ALIASES.get(block, block) if isinstance(block, str) else block
    block = _block(block, where)
    if not _is_count(repeats):
        raise ModelError(f"{where}: {block} is repeated {repeats!r} times; give a whole number of 1 or more.")
    kind = layers.find_layer(block)
    arguments = _arguments(block, given, where, data)
    unknown = [name for name in arguments if name not in kind.names]
    if unknown:
        raise ModelError(f"{where}: {block} takes no {unknown[0]!r}. {_near(str(unknown[0]), kind.names)}")
    if "channels" in kind.names and not _is_count(arguments.get("channels")):
        raise ModelError(
            f"{where}: {block} has channels {arguments.get('channels')!r}; give a whole number of 1 or more."
        )
    return LayerSpec(block, _source(source, where, index, names, several=kind.joins), repeats, arguments, where)


def _block(name: Any, where: str) -> str:
    if isinstance(name, str) and layers.find_layer(name) is not None:
        return name
    if str(name) in LATER:
        raise ModelError(f"{where}: block {name} is not in sightline yet; it comes with {LATER[name]}.")
    raise ModelError(f"{where}: unknown block {name!r}. {_near(str(name), [*LAYERS, *LATER])}")


def _arguments(block: str, given: Any, where: str, data: Mapping[str, Any]) -> dict[str, Any]:
    kind = layers.find_layer(block)
    if not isinstance(given, Mapping):
        values = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        try:
            given = layers.positional(block, values)
        except ValueError as problem:
            raise ModelError(f"{where}: {problem}.") from None
    given = {name: _read(value, kind.when_none.get(name)) for name, value in given.items()}
    for name in kind.shared:
        said, whole = given.get(name, name), data.get(name, DESCRIPTION_DEFAULTS.get(name))
        if whole is None:
            raise ModelError(f"{where}: {block} needs {name} beside nc, for example  {name}: [17, 3].")
        if said not in (name, NOT_GIVEN) and _plain(said) != _plain(whole):
            meant = (
                f"is for {said!r} classes, but nc is" if name == "nc" else f"has {name} {said!r}, but the model's is"
            )
            raise ModelError(f"{where}: {block} {meant} {whole}. Write {name} here.")
    empty = [name for name, value in given.items() if value is None and name not in ("padding", "size")]
    if empty:
        raise ModelError(f"{where}: {block} has no value for {empty[0]}.")
    arguments = {name: value for name, value in given.items() if value not in (None, NOT_GIVEN)}
    for name, only in kind.fixed.items():
        if arguments.pop(name, only) != only:
            raise ModelError(
                f"{where}: {block} has {name} {given[name]!r}, which sightline does not have: write {only} or nothing."
            )
    arguments.update({name: name for name in kind.shared})  # those of the whole description, which may be changed
    return {**kind.stated, **arguments}


def _read(value: Any, none: Any) -> Any:
    """A value as the reference reads it: quoted words of Python, and what no value says for this argument."""
    if value in (None, NOT_GIVEN) and none is not None:
        return none
    return {"True": True, "False": False}.get(value, value) if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _source(value: Any, where: str, index: int, names: Mapping[str, int], *, several: bool) -> int | tuple[int, ...]:
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    resolved = tuple(_layer_index(each, where, index, names) for each in (value if listed else [value]))
    if several:
        return resolved if listed else resolved[0]
    if len(resolved) != 1:
        raise ModelError(
            f"{where}: this block takes one map, but from lists {len(resolved)}. Join them with Concat first."
        )
    return resolved[0]


def _layer_index(value: Any, where: str, index: int, names: Mapping[str, int]) -> int:
    if value == "prev":
        return -1
    if isinstance(value, str):
        if value not in names:
            raise ModelError(
                f"{where}: from names {value!r}, which no earlier row has as its name. {_near(value, names)}"
            )
        return names[value]
    if not isinstance(value, int) or isinstance(value, bool):
        raise ModelError(f"{where}: from is {value!r}; give -1 (the layer before), an earlier layer's index or name.")
    first = index == 0 and value == -1  # the image
    if not first and not (0 <= value < index or -index <= value < 0):
        raise ModelError(f"{where}: from is {value}, but only the layers 0 to {index - 1} come before it.")
    return value


def _near(name: str, known: Any) -> str:
    known = [str(each) for each in known]
    lower = {each.lower(): each for each in known}
    near = [lower[each] for each in difflib.get_close_matches(name.lower(), list(lower), n=3, cutoff=0.5)]
    return f"Did you mean {' or '.join(near)}?" if near else f"There is: {', '.join(sorted(known)) or 'none'}."


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
