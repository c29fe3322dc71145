"""The page itself: one file that needs nothing else, neither a server nor a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from sightline import __version__
from sightline.errors import UsageError
from sightline.files import atomic_write
from sightline.report.collect import collect, run_folder

NAME = "report.html"
BUDGET = 3_000_000  # bytes that a page may have, so that it can be mailed and opened on a phone
FOR_PICTURES = 2_100_000  # of them; the rest is kept free for tables and curves
RUNS_AT_MOST = 12  # more have no colours that could be told apart


def write_report(folders: Sequence[str | Path], target: Path | None = None) -> Path:
    """Write the page about one run, or several side by side, and return where it is.

    Args:
        folders: of the runs.
        target: the file; None is report.html in the first folder.

    Raises:
        MissingFileError: one of them is no run folder.
        SettingValueError: a results.csv is no table of numbers.
        UsageError: no run, or too many.
        OutputError: the page cannot be written.
    """
    if not 0 < len(folders) <= RUNS_AT_MOST:
        raise UsageError(f"A report is about 1 to {RUNS_AT_MOST} runs, not {len(folders)}. Name their folders.")
    places = list(dict.fromkeys(run_folder(folder) for folder in folders))
    target = places[0] / NAME if target is None else Path(target)
    text = page(data_of([collect(place, picture_bytes=FOR_PICTURES // len(places)) for place in places]))
    with atomic_write(target, "w", durable=False, encoding="utf-8") as file:
        file.write(text)
    return target


def data_of(runs: Sequence[dict[str, Any]], **more: Any) -> str:
    """What the page is told, as JSON.

    Args:
        runs: from `collect`.
        more: `every` and `tag` of a page that is served: seconds between two looks, and the state that it shows.
    """
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    facts = {"runs": list(runs), "made": made, "version": __version__, **more}
    return json.dumps(facts, allow_nan=False, ensure_ascii=False)


def page(data: str, *, live: bool = False) -> str:
    """The HTML that shows the data, without a byte from elsewhere.

    Args:
        data: from `data_of`.
        live: whether it may ask whoever served it for newer data; nothing else is ever allowed.
    """
    here = files("sightline.report")
    style = (here / "page.css").read_text(encoding="utf-8")
    code = "\n".join((here / name).read_text(encoding="utf-8") for name in ("chart.js", "page.js"))
    text = (here / "page.html").read_text(encoding="utf-8")
    # Each mark stands once and in this order, so that what is put in is not searched again.
    parts = []
    for mark, content in (
        ("connect", "'self'" if live else "'none'"),
        ("style", style),
        ("data", as_script_data(data)),
        ("code", code),
    ):
        before, text = text.split(f"{{{{{mark}}}}}")
        parts += [before, content]
    return "".join([*parts, text])


def as_script_data(text: str) -> str:
    """JSON that can stand inside a script element: nothing in it can end the element or begin a comment."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
