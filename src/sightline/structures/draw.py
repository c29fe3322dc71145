"""Boxes with names on pictures: colours, sizes, lines, labels. Pictures are (H, W, 3) uint8 BGR."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from sightline.structures.lettering import fitting_letters, letters_of
from sightline.structures.pictures import Picture

Colour = tuple[int, int, int]  # blue, green, red

# Told apart by people with any kind of colour vision, as far as twenty colours can be. The first seven are the set of
# Okabe & Ito (Color Universal Design, 2008) without black, ordered so that neighbours lie far apart; the rest follows
# Paul Tol's "muted" and "light" schemes (SRON technical note 09-002).
PALETTE: tuple[str, ...] = (
    *("#e69f00", "#0072b2", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442"),
    *("#882255", "#44aa99", "#332288", "#ddcc77", "#117733", "#aa4499", "#88ccee"),
    *("#999933", "#cc6677", "#77aadd", "#ee8866", "#bbcc33", "#ffaabb"),
)
_LIGHT, _DARK = (255, 255, 255), (20, 20, 20)
_PADDING = 2  # pixels between letters and the edge of their background


def class_colour(index: int) -> Colour:
    """The colour of a class, the same in every picture of every run. BGR."""
    red, green, blue = bytes.fromhex(PALETTE[int(index) % len(PALETTE)][1:])
    return blue, green, red


def readable_on(background: Colour) -> Colour:
    """Dark or light letters, whichever stands out more.

    Source: WCAG 2.1, relative luminance; at 0.179 both contrasts are equal.
    """
    blue, green, red = (((value / 255 + 0.055) / 1.055) ** 2.4 for value in background)
    return _DARK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else _LIGHT


def default_line_width(shape: Sequence[int]) -> int:
    """Pixels, for a colour picture of this (height, width, …): 2 up to about 800 pixels a side, then in proportion."""
    return max(round((shape[0] + shape[1] + 3) / 2 * 0.003), 2)


def default_text_size(shape: Sequence[int], line_width: int) -> int:
    """Font size in pixels: grows with the lines, but leaves room for several labels on a small picture."""
    return max(min(5 * line_width + 4, round(0.06 * min(shape[0], shape[1]))), 9)


def draw_boxes(
    picture: Picture,
    boxes_xyxy: npt.ArrayLike,
    labels: Sequence[str],
    colours: Sequence[Colour],
    *,
    line_width: int,
    text_size: int,
    text_colour: Colour | None = None,
    font: str | None = None,
) -> None:
    """Draw boxes and their labels into `picture`. Labels never leave it.

    Args:
        picture: changed in place.
        boxes_xyxy: (N, 4) pixels; what lies outside the picture is not drawn.
        labels: N texts; "" draws the box alone.
        colours: N of them.
        line_width: pixels.
        text_size: font size, pixels.
        text_colour: None chooses dark or light by the colour below.
        font: path or name of a TrueType font; None takes the one that comes with matplotlib.
    """
    height, width = picture.shape[:2]
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    # A coordinate far outside would overflow an integer; these limits still hide the lines of such a box.
    low, high = -2 * line_width, np.array([width, height, width, height]) + 2 * line_width
    corners = np.nan_to_num(boxes).clip(low, high).round().astype(int).tolist()
    for (x1, y1, x2, y2), colour in zip(corners, colours, strict=True):
        _draw_frame(picture, (x1, y1, x2, y2), colour, line_width)
    # Labels after all lines, so that no neighbour's box runs through them; the first rows, the surest ones, on top.
    for (x1, y1, _, _), label, colour in reversed(list(zip(corners, labels, colours, strict=True))):
        if not label:
            continue
        # On the upper edge of the box; where the picture ends, inside the box.
        above = y1 + line_width // 2 - letters_of(label, text_size, font).shape[0] - 2 * _PADDING
        origin = (x1 - line_width // 2, above if above >= 0 else y1 - line_width // 2)
        draw_text(picture, label, origin, text_size=text_size, background=colour, text_colour=text_colour, font=font)


def _draw_frame(picture: Picture, corners: tuple[int, int, int, int], colour: Colour, line_width: int) -> None:
    """A rectangle with lines of exactly `line_width` pixels (those of OpenCV are wider), centred on the corners."""
    x1, y1, x2, y2 = corners
    outer = line_width // 2
    inner = line_width - outer
    left, top, right, bottom = (max(value - outer, 0) for value in (x1, y1, x2, y2))
    x_end, y_end = max(x2 + inner, 0), max(y2 + inner, 0)
    picture[top : max(y1 + inner, 0), left:x_end] = colour
    picture[bottom:y_end, left:x_end] = colour
    picture[top:y_end, left : max(x1 + inner, 0)] = colour
    picture[top:y_end, right:x_end] = colour


def draw_text(
    picture: Picture,
    text: str,
    origin: tuple[int, int],
    *,
    text_size: int,
    background: Colour,
    text_colour: Colour | None = None,
    font: str | None = None,
) -> tuple[int, int]:
    """Write one line on a filled rectangle; it is moved, made smaller or shortened until it lies inside the picture.

    Args:
        picture: changed in place.
        origin: (x, y) of the upper left corner of the rectangle.

    Returns:
        (w, h) of the rectangle, pixels.
    """
    letters = fitting_letters(text, text_size, room=picture.shape[1] - 2 * _PADDING, font=font)
    height, width = letters.shape[0] + 2 * _PADDING, letters.shape[1] + 2 * _PADDING
    left = max(min(origin[0], picture.shape[1] - width), 0)
    top = max(min(origin[1], picture.shape[0] - height), 0)
    cv2.rectangle(picture, (left, top), (left + width - 1, top + height - 1), background, -1)
    area = picture[top + _PADDING :, left + _PADDING :][: letters.shape[0], : letters.shape[1]]  # a view
    # In a picture of a few pixels even one line may not fit: what does not is cut off.
    cover = letters[: area.shape[0], : area.shape[1], None].astype(np.float32) / 255
    ink = np.array(text_colour or readable_on(background), dtype=np.float32)
    area[:] = (area * (1 - cover) + ink * cover).round()
    return width, height
