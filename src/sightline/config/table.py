"""The settings as rows for people: error messages, `sightline settings` and docs/settings.md say the same."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sightline.config.groups import GROUPS, MODE_DEFAULTS
from sightline.config.preset import preset_names, preset_text

_COMPARISONS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


class Row(NamedTuple):
    """One setting."""

    name: str
    kind: str  # "whole number or None"
    default: Any
    limits: str  # "from 0 to 1", empty where the kind says all
    allowed: str  # both, as an error message says it
    modes: tuple[str, ...]
    meaning: str
    group: str
    new: bool  # not an argument of the reference


def _row(name: str, field: FieldInfo, group: type[BaseModel]) -> Row:
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    kind = _kind(field.annotation)
    nullable = type(None) in get_args(field.annotation)
    limits = str(extra["allowed"]) or _limits(field)
    described = str(extra["allowed"]) or ", ".join(part for part in (kind, limits) if part)
    return Row(
        name=name,
        kind=f"{kind} or None" if nullable else kind,
        default=field.default,
        limits=limits,
        allowed=f"{described}, or None" if nullable else described,
        modes=tuple(str(mode) for mode in extra["modes"]),  # type: ignore[union-attr]
        meaning=field.description or "",
        group=(group.__doc__ or "").strip(),
        new=bool(extra["new"]),
    )


def _kind(annotation: Any) -> str:
    """The annotation in words."""
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return " or ".join(str(option) for option in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(part) for part in get_args(annotation) if part is not type(None)))
    simple = {bool: "True or False", int: "a whole number", float: "a number", str: "text", Any: "anything"}
    if annotation in simple:
        return simple[annotation]
    return {list: "a list", dict: "a dict", Callable: "a function"}[get_origin(annotation) or annotation]


def _limits(field: FieldInfo) -> str:
    found = {key: getattr(rule, key) for rule in field.metadata for key in _COMPARISONS if hasattr(rule, key)}
    if "ge" in found and "le" in found:
        return f"from {found['ge']} to {found['le']}"
    return " and ".join(f"{words} {found[key]}" for key, words in _COMPARISONS.items() if key in found)


ROWS: tuple[Row, ...] = tuple(
    _row(name, field, group) for group in GROUPS for name, field in group.model_fields.items()
)
ROW: dict[str, Row] = {row.name: row for row in ROWS}


def markdown() -> str:
    """The contents of docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Made by `sightline settings --markdown > docs/settings.md`; do not edit. The command line takes",
        '`name=value`, Python `YOLO("yolo26n.yaml").train(name=value)`. What comes later wins: defaults,',
        "preset (`preset=`), settings in the model's file, YAML file (`cfg=`), command line or keywords.",
        "A setting marked * does not exist in Ultralytics.",
        "",
        *(f"{mode} starts from {_pairs(values)}." for mode, values in MODE_DEFAULTS.items() if values),
        "On the command line, predict saves its pictures.",
    ]
    group = ""
    for row in ROWS:
        if row.group != group:
            group = row.group
            lines += [
                "",
                f"## {group.rstrip('.')}",
                "",
                "| setting | type | default | allowed | read in | meaning |",
                "|---|---|---|---|---|---|",
            ]
        name = f"`{row.name}`{' *' if row.new else ''}"
        cells = (name, row.kind, f"`{row.default}`", row.limits, ", ".join(row.modes), row.meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += [
        "",
        "## Presets",
        "",
        "`preset=NAME` takes these; each value of your own wins. `sightline settings NAME` prints one.",
    ]
    for name in preset_names():
        lines += ["", f"`{name}`", "", "```yaml", preset_text(name).rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in values.items())
