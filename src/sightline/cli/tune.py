"""`sightline tune …`: settings as in `train`, and what belongs to the study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.config.command_line import parse_command_line, smart_value
from sightline.config.settings import COMMAND_LINE
from sightline.errors import Interrupted, UsageError
from sightline.log import configure

OWN = (
    *("trials", "method", "engine", "pruner", "parallel", "gpu_per_trial", "cpu_per_trial", "grace_period", "address"),
    *("space", "iterations", "use_ray", "resume"),
)
TEXT = ("space", "address", "method", "engine", "pruner")  # where none is a word, not nothing
EXAMPLE = "sightline tune model=yolo26n.yaml data=cells.yaml epochs=20 trials=30"


def tune(words: Sequence[str]) -> int:
    """Do what the words say and return the exit code: 1 where no trial has a fitness.

    Raises:
        UsageError: the words are wrong; nothing was started.
    """
    own, rest = _own(words)
    line = parse_command_line(["train", *rest])
    given = {**line.overrides, **own}
    space, resume = given.pop("space", None), given.pop("resume", False)
    configure()
    model = given.pop("model", None)
    if resume and model is None:
        model = _model_of(resume)
    elif model is None or (not resume and given.get("data") is None):
        missing = " and ".join(
            f"{name}=" for name, value in (("model", model), ("data", given.get("data"))) if not value
        )
        if given.get("cfg") is None:
            raise UsageError(f"tune needs {missing}. Example: {EXAMPLE}")
        model = model or _from_file(given["cfg"], "model")
    from sightline.facade import YOLO  # loads torch, which takes seconds

    try:
        result = YOLO(model, task=line.task)._tune(given, space, resume, origin=COMMAND_LINE)
    except Interrupted as end:
        return 128 + end.signal
    return 0 if result.best is not None else 1


def _own(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Our own words by name, and the others."""
    own: dict[str, Any] = {}
    rest = []
    for word in words:
        name, found, value = word.removeprefix("--").partition("=")
        if not found or name not in OWN:
            rest.append(word)
        elif name in own:
            raise UsageError(f"{name} is given twice: {own[name]} and {value}. Keep one.")
        else:
            own[name] = value if name in TEXT else smart_value(value)
    return own, rest


def _model_of(resume: Any) -> str:
    from sightline.tune.plan import Plan
    from sightline.tune.request import folder_of

    folder = folder_of(resume, "detect")
    return str(Plan.load(Path(folder)).settings.model)


def _from_file(cfg: Any, name: str) -> Any:
    from sightline.config.load import make_settings

    value = make_settings("train", {}, cfg=cfg, quiet=True).get(name)
    if value is None:
        raise UsageError(f"{cfg} names no {name}. Write it there, or give {name}=. Example: {EXAMPLE}")
    return value
