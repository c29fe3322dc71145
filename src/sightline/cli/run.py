"""`train`, `val` and `predict` from the command line: check the whole request, then load torch and start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sightline.artifacts.run_dir import checkpoint_to_resume
from sightline.config.command_line import CommandLine, parse_command_line
from sightline.config.load import make_settings
from sightline.config.settings import COMMAND_LINE, Settings
from sightline.config.support import check_supported
from sightline.errors import UsageError
from sightline.log import configure
from sightline.models.training_settings import settings_in_file

NEEDS = {"train": ("model", "data"), "val": ("model", "data"), "predict": ("model", "source")}
EXAMPLES = {
    "train": "sightline train model=yolo26n.yaml data=shapes epochs=100",
    "lr-find": "sightline lr-find model=yolo26n.yaml data=shapes",
    "batch-find": "sightline batch-find model=yolo26n.yaml data=shapes",
    "val": "sightline val model=best.pt data=shapes",
    "predict": "sightline predict model=best.pt source=photo.jpg",
}


def run(words: Sequence[str], *, do: str = "") -> int:
    """Do what the words say and return the exit code.

    Args:
        do: a command that looks at a training instead of running it: "lr-find", "batch-find".

    Raises:
        UsageError: the words or settings are wrong, or a model, data set or source is missing; nothing was started.
    """
    line = parse_command_line(words)
    # Quiet: the facade makes the same settings again and says then what is old or without effect.
    settings = make_settings(line.mode, line.overrides, origin=COMMAND_LINE, quiet=True, in_model_file=settings_in_file)
    configure(verbose=settings.verbose)
    model = _checked_model(settings, do)
    check_supported(settings)

    overrides = dict(line.overrides)
    if line.mode == "predict" and not settings.is_user_set("save"):
        overrides["save"] = True  # from Python the results come back as objects; here the pictures are the result
    if line.mode == "predict":
        overrides["source"] = settings.source
    return _start(line, model, overrides, do)


def _start(line: CommandLine, model: str, overrides: dict[str, Any], do: str) -> int:
    from sightline.facade import YOLO  # loads torch, which takes seconds

    yolo = YOLO(model, task=line.task)
    if do:
        from sightline.tune import batch_find, lr_find

        find = {"lr-find": lr_find.find, "batch-find": batch_find.find}[do]
        yolo._run(line.mode, overrides, origin=COMMAND_LINE, instead=find)
        return 0
    if line.mode == "predict":
        # As a stream: a folder of a million images must not gather in memory.
        for _ in yolo._run(line.mode, overrides, origin=COMMAND_LINE, stream=True):
            pass
    else:
        yolo._run(line.mode, overrides, origin=COMMAND_LINE)
    return 0


def _checked_model(settings: Settings, do: str) -> str:
    """The model asked for, once nothing that the mode needs is missing. A run that is to go on is its own model."""
    if do and settings.resume:
        raise UsageError(f"{do} is for a run that is to begin: leave resume out.")
    if settings.mode == "train" and settings.resume:
        return str(checkpoint_to_resume(settings.resume, settings.model))
    given = {"model": settings.model, "data": settings.data, "source": settings.source}
    command = do or settings.mode
    missing = [name for name in NEEDS[settings.mode] if given[name] is None]
    if missing or settings.model is None:
        wanted = " and ".join(f"{name}=" for name in missing)
        resume = ", or resume= to go on with a run" if command == "train" else ""
        raise UsageError(f"{command} needs {wanted}{resume}. Example: {EXAMPLES[command]}")
    return settings.model
