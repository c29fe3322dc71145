"""From a name such as `yolo26n.yaml` to the file that describes it and the letter of its size."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sightline.errors import ModelError, UnknownModelError
from sightline.log import LOGGER

ZOO = Path(__file__).parent / "zoo"
LETTERS = "nsmblx"
# yolo26n-p2 → yolo26, n, -p2: the letter follows the family's number.
SIZED = re.compile(rf"^(?P<family>.*\d)(?P<letter>[{LETTERS}])(?P<variant>(?:[-_].*)?)$")


class Found(NamedTuple):
    """Where a name leads."""

    path: Path
    letter: str | None  # what may be the size in the name; None if there is nothing like one
    taken_off: bool  # the file was found only without that letter, so it must be a size


def find_description(name: str | Path) -> Found:
    """The YAML file for a name, and the letter in that name that may be its size.

    A file of exactly that name wins, then the name without its letter beside it (`yolo26m-mine.yaml` →
    `yolo26-mine.yaml`), then the built-in descriptions. `.yaml` may be left out for those.

    A path into the folder where the reference keeps its descriptions means the built-in one of that name, and families
    are found with and without the `v` of their number (`yolov12n.yaml`, `yolo12n.yaml`).

    Raises:
        UnknownModelError: there is none; the message gives the nearest names.
    """
    path = Path(name)
    if path.suffix in (".pt", ".pth", ".safetensors", ".onnx"):
        raise ModelError(
            f"{name} is a weights file, not a description (.yaml) of a network. Load it with YOLO({str(name)!r})."
        )
    if path.suffix not in (".yaml", ".yml"):
        path = path.with_name(path.name + ".yaml")
    match = SIZED.match(path.stem)
    unsized = path.with_name(match["family"] + match["variant"] + path.suffix) if match else path
    letter = match["letter"] if match else None
    for candidate in (path, unsized):  # one object where there is no letter
        if os.path.isfile(candidate):  # a Path's own method raises for names that no file can have
            if (ZOO / candidate.name).is_file() and candidate.parent.resolve() != ZOO:
                LOGGER.info(f"{candidate} is used, not the built-in description of that name.")
            return Found(candidate, letter, candidate is not path)
    if path.parent == Path() or _is_in_reference(path):
        for stem in _spellings(unsized.stem):
            if os.path.isfile(built_in := ZOO / f"{stem}.yaml"):
                if path.parent != Path():
                    LOGGER.info(f"{name} is not there; the built-in description of that name is used.")
                return Found(built_in, letter, letter is not None)
    raise UnknownModelError(f"There is no model {str(name)!r}: {_hint(path)}")


def _is_in_reference(path: Path) -> bool:
    """`ultralytics/cfg/models/26/yolo26.yaml`, which scripts name wherever they run."""
    return "ultralytics/cfg/models/" in path.as_posix()


def _spellings(stem: str) -> list[str]:
    """yolov12-p2 → itself, then yolo12-p2; and the other way round."""
    other = re.sub(r"^yolo(v?)(?=\d)", lambda found: "yolo" if found[1] else "yolov", stem)
    return [stem, other]


def read_description(path: Path) -> Any:
    """What the file holds.

    Raises:
        ModelError: it cannot be read, or is no YAML; names the line.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise ModelError(f"{path} cannot be read: {problem}") from None
    except RecursionError:
        raise ModelError(f"{path} is nested too deeply for the description of a model.") from None
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise ModelError(f"{path}{line} is no YAML: {getattr(problem, 'problem', problem)}") from None


def built_in_names() -> list[str]:
    """`yolo26n`, `yolo26n-p2`, … : every description of the zoo in every size."""
    names = []
    for path in sorted(ZOO.glob("*.yaml")):
        family, dash, variant = path.stem.partition("-")
        data = read_description(path)
        # A description that states its size has no other, and its name says that already: rtdetr-l.
        sized = [f"{family}{letter}{dash}{variant}" for letter in data["scales"]]
        names += [path.stem] if "scale" in data else sized
    return names


def _hint(path: Path) -> str:
    names = built_in_names()
    near = difflib.get_close_matches(path.stem.lower(), names, n=3, cutoff=0.6)
    families = ", ".join(sorted(each.stem for each in ZOO.glob("*.yaml")))
    where = f"no file {path}" + ("" if path.parent == Path() else ", and no such file without the size letter")
    meant = f" Did you mean {' or '.join(each + '.yaml' for each in near)}?" if near else ""
    return f"{where}, and built in are {families} (sizes such as yolo26n).{meant}"
