"""The tables of docs/migrating.md, made from the one that imports follow.

`python -m sightline.compat.document docs/migrating.md` makes them anew.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import sightline
from sightline.compat import table

MARKED = re.compile(r"(<!-- generated: (?P<part>\w+) -->\n).*?(\n<!-- end -->)", re.DOTALL)


def imports() -> str:
    """One line for each of our objects: old imports, new import, remark."""
    old: dict[str, list[table.Row]] = {}
    for row in table.rows():
        old.setdefault(row.new, []).append(row)
    lines = ["| scripts say | here | to know |", "|---|---|---|"]
    for new, same in old.items():
        places = "<br>".join(f"`{row.old.removeprefix('ultralytics.')}`" for row in same)
        lines.append(f"| {places} | `{_import(new)}` | {table.REMARKS.get(new, '')} |")
    return "\n".join(lines)


def missing() -> str:
    """One line for each subject that comes later, and for everything that has something else here."""
    lines = ["| not here | what then |", "|---|---|"]
    for names, advice in (
        (table.LATER, lambda subject: f"comes with {subject}"),
        (table.INSTEAD, lambda instead: instead),
    ):
        by_advice: dict[str, list[str]] = {}
        for name, text in names.items():
            by_advice.setdefault(advice(text), []).append(f"`{name.removeprefix('ultralytics.')}`")
        lines += [f"| {', '.join(old)} | {text} |" for text, old in by_advice.items()]
    return "\n".join(lines)


def filled(text: str) -> str:
    """The document with its generated parts made anew."""
    parts = {"imports": imports, "missing": missing}
    return MARKED.sub(lambda found: f"{found[1]}{parts[found['part']]()}{found[3]}", text)


def _import(new: str) -> str:
    module, _, name = new.partition(":")
    for flat, place in sightline._PUBLIC.items():
        place_module, _, place_name = place.partition(":")
        if (place_module, place_name or flat) == (module, name):
            return f"from sightline import {flat}"
    return f"from {module} import {name}"


def main(path: str) -> None:
    file = Path(path)
    file.write_text(filled(file.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
