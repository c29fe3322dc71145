"""What all figures share: a canvas without global state, quiet axes, class names in any language, safe writing.

matplotlib is imported inside functions because it is slow to load and most commands draw nothing. Only its object
interface is used: pyplot would keep figures, a backend and settings of its own, which belong to the user's program.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sightline.files import atomic_write
from sightline.structures.draw import PALETTE

INK, SOFT, GRID = "#222222", "#666666", "#dddddd"  # titles and lines · ticks and remarks · grid
TRAIN, VALIDATION, METRIC = PALETTE[1], PALETTE[3], PALETTE[2]
NAMED_CLASSES = 20  # as many as the palette has colours; more lines cannot be told apart anyway


def new_figure(rows: int, columns: int, *, size: tuple[float, float], **grid: Any) -> tuple[Any, Any]:
    """A figure of `size` inches and a (rows, columns) array of axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **grid)


def quiet(axes: Any, title: str = "", *, xlabel: str = "", ylabel: str = "", grid: bool = True) -> None:
    """Title and labels, thin lines, no frame on the right and at the top."""
    axes.set_title(title, fontsize=10, color=INK, fontfamily=families())
    axes.set_xlabel(xlabel, fontsize=9, color=INK, fontfamily=families())
    axes.set_ylabel(ylabel, fontsize=9, color=INK, fontfamily=families())
    axes.tick_params(labelsize=8, colors=SOFT, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(SOFT)
    if grid:
        axes.grid(True, color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)


def logarithmic(axes: Any, values: Sequence[float]) -> None:
    """A logarithmic x axis for what may lie within one decade, where matplotlib's own labels run into each other."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    decades = math.log10(max(values) / min(values)) if values else 0.0
    if decades < 2:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 1.2 else (1, 3)))
        axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def remark(axes: Any, text: str) -> None:
    """Words in the middle of axes that have nothing to show."""
    paper = {"facecolor": "white", "edgecolor": "none"}  # hides the grid behind the words
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=SOFT, bbox=paper)


def legend_beside(axes: Any) -> None:
    """A legend on the right of the axes, where it hides no line."""
    letters = {"family": families(), "size": 8}
    axes.legend(bbox_to_anchor=(1.02, 1), loc="upper left", borderaxespad=0, frameon=False, prop=letters)


def name_of(names: Mapping[int, str] | Sequence[str], index: int) -> str:
    """The name of a class, short enough for a legend; its number where it has none, or none that a font here shows."""
    table = names if isinstance(names, Mapping) else dict(enumerate(names))
    text = " ".join(str(table.get(index, f"class{index}")).split())
    if not text or not _shown_by_fonts(text):
        return f"class{index}"
    # Dollar signs would start a formula.
    return shorten(text, 24).replace("$", r"\$")


def shorten(text: str, length: int) -> str:
    """At most `length` characters, the middle left out."""
    return text if len(text) <= length else f"{text[: (length - 1) // 2]}…{text[-(length // 2) :]}"


@cache
def families() -> list[str]:
    """Font families for class names: the standard one, then what this machine has for other scripts."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    wide = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "Microsoft YaHei", "Malgun Gothic")
    return ["DejaVu Sans", *(name for name in wide if name in installed)]


def _shown_by_fonts(text: str) -> bool:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    if text.isascii():
        return True
    fonts = [get_font(findfont(FontProperties(family=family))) for family in families()]
    return all(any(font.get_char_index(ord(letter)) for font in fonts) for letter in text)


def save_figure(figure: Any, file: str | os.PathLike[str], *, dpi: int = 150) -> Path:
    """Write the figure in the format of the file's suffix.

    Raises:
        OutputError: the file cannot be written; what was there stays as it was.
    """
    target, data = Path(file), io.BytesIO()
    with warnings.catch_warnings():
        # A name whose letters no font has shows empty boxes; one warning a letter helps nobody.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        # "tight", because the automatic layout lets long class names of square axes run over the edge.
        suffix = target.suffix.lstrip(".") or "png"
        figure.savefig(data, format=suffix, dpi=dpi, bbox_inches="tight", pad_inches=0.12)
    with atomic_write(target, durable=False) as output:
        output.write(data.getvalue())
    return target
