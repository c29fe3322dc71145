"""Letters as grey masks that can be laid over a picture.

Pillow and a TrueType font draw them, because the fonts inside OpenCV 4 know ASCII only and class names are written in
every language. What that font lacks (Chinese, say) comes from OpenCV 5 or from a font of the system.
"""

from __future__ import annotations

import contextlib
import importlib.util
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sightline.errors import MissingFileError
from sightline.log import LOGGER

# Fonts with Chinese, Japanese and Korean letters, as systems name them; for an OpenCV before 5.
_WIDE_FONTS = (
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "SourceHanSans-Regular.ttc", "wqy-microhei.ttc"),
    *("DroidSansFallbackFull.ttf", "msyh.ttc", "malgun.ttf", "PingFang.ttc", "Arial Unicode.ttf"),
)
_SMALLEST = 7  # pixels; below this letters are dots

Letters = npt.NDArray[np.uint8]  # (h, w), how much ink covers each pixel


def fitting_letters(text: str, size: int, *, room: int, font: str | None = None) -> Letters:
    """One line of text, at most `room` pixels wide: made smaller when too wide, then shortened with "…".

    Args:
        text: line breaks become spaces.
        size: font size, pixels.
        room: pixels.
        font: path or name of a TrueType font; None takes the one that comes with matplotlib.

    Raises:
        MissingFileError: there is no such font.
    """
    letters = letters_of(text, size, font)
    if letters.shape[1] <= room:
        return letters
    smaller = max(int(size * room / letters.shape[1]), min(_SMALLEST, size))
    letters = letters_of(text, smaller, font)
    while letters.shape[1] > room and len(text) > 1:
        text = text.removesuffix("…")[:-1] + "…" if len(text) > 2 else text[:-1]
        letters = letters_of(text, smaller, font)
    return letters[:, : max(room, 0)]


@lru_cache(maxsize=1024)  # the same few names are written thousands of times
def letters_of(text: str, size: int, font: str | None = None) -> Letters:
    """One line of text, as wide as it needs to be. Read-only: the mask is shared."""
    text = " ".join(text.split()) or " "
    face = _font_for(text, size, font)
    letters = _with_opencv(text, size) if face is None else _with_pillow(text, face)
    letters.flags.writeable = False
    return letters


def _with_pillow(text: str, face: Any) -> Letters:
    from PIL import Image, ImageDraw

    # Lines of one font and size are equally high whatever stands in them, unless a letter really sticks out.
    boxes = [face.getbbox(sample, anchor="ls") for sample in ("Ag", text)]
    above, below = 1 - min(box[1] for box in boxes), 1 + max(box[3] for box in boxes)
    canvas = Image.new("L", (max(round(face.getlength(text)), 1) + 1, round(above + below)))
    ImageDraw.Draw(canvas).text((0, above), text, font=face, fill=255, anchor="ls")
    return np.array(canvas, dtype=np.uint8)


def _with_opencv(text: str, size: int) -> Letters:
    """With the font of all scripts that OpenCV 5 brings."""
    wide = cv2.FontFace("uni")
    room = (len(text) + 2) * 2 * size, 3 * size
    canvas = np.zeros(room[::-1], dtype=np.uint8)
    left, top, width, height = cv2.getTextSize(room, text, (size, 2 * size), wide, size)
    cv2.putText(canvas, text, (size, 2 * size), (255, 255, 255), wide, size)
    return np.ascontiguousarray(canvas[top - 1 : top + height + 1, left : left + width + 1], dtype=np.uint8)


def _font_for(text: str, size: int, font: str | None) -> Any:
    """The first font that has all letters of the text, the standard one when none has; None stands for OpenCV's."""
    if font is not None:
        try:
            return _load_font(font, size)
        except OSError as error:
            raise MissingFileError(f"font={font}: {error}. Give the path of a .ttf or .otf file.") from error
    standard = _load_font(None, size)
    if text.isascii() or _shows(standard, text):
        return standard
    if hasattr(cv2, "FontFace"):
        return None
    for name in _WIDE_FONTS:
        with contextlib.suppress(OSError):
            wide = _load_font(name, size)
            if _shows(wide, text):
                return wide
    _say_no_font()
    return standard


@cache  # once is enough
def _say_no_font() -> None:
    LOGGER.warning(
        "No font found here shows all letters of the class names: some appear as empty boxes. Install Noto Sans CJK, "
        "or OpenCV 5, which brings such a font."
    )


def _shows(face: Any, text: str) -> bool:
    """Whether the font has a shape of its own for every letter, not the empty box."""
    missing = bytes(face.getmask("\U0010ffff"))
    return all(character.isspace() or bytes(face.getmask(character)) != missing for character in set(text))


@lru_cache(maxsize=64)
def _load_font(name: str | None, size: int) -> Any:
    from PIL import ImageFont

    if name is not None:
        return ImageFont.truetype(name, size)
    # matplotlib is always installed and brings DejaVu Sans; looking for the file does not import it.
    place = importlib.util.find_spec("matplotlib")
    if place is not None and place.origin is not None:
        file = Path(place.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        with contextlib.suppress(OSError):
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)
