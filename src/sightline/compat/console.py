"""Colours on the console."""

from __future__ import annotations

from sightline.errors import SettingValueError

_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
# Numbers of ECMA-48, "Select Graphic Rendition": 30–37 are colours, 90–97 the same ones brighter.
CODES: dict[str, int] = {
    **{name: 30 + number for number, name in enumerate(_COLOURS)},
    **{f"bright_{name}": 90 + number for number, name in enumerate(_COLOURS)},
    "end": 0,
    "bold": 1,
    "underline": 4,
}


def colorstr(*words: object) -> str:
    """A text in colour: `colorstr("red", "bold", "stop")`; `colorstr("note: ")` is blue and bold.

    Raises:
        SettingValueError: a colour is unknown.
    """
    *styles, text = words if len(words) > 1 else ("blue", "bold", *words)
    unknown = [style for style in styles if style not in CODES]
    if unknown:
        raise SettingValueError(f"colorstr knows no colour {unknown[0]!r}. There are {', '.join(CODES)}.")
    return "".join(f"\033[{CODES[str(style)]}m" for style in styles) + f"{text}\033[0m"
