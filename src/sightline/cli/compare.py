"""`sightline compare …`: runs that are there, or settings files that are run with several seeds first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.config.command_line import parse_command_line, smart_value
from sightline.errors import Interrupted, OutputError, SettingTypeError, UsageError
from sightline.log import LOGGER

if TYPE_CHECKING:
    from sightline.doctor.compare import Comparison

OWN = ("repeats", "metric", "at", "save_dir")
EXAMPLES = (
    "Examples: sightline compare runs/detect/base-* runs/detect/new-* · sightline compare repeats=3 base.yaml new.yaml"
)


def compare(words: Sequence[str]) -> int:
    """Do what the words say and return the exit code.

    Raises:
        UsageError: the words are wrong; nothing was started.
    """
    places = [word for word in words if "=" not in word or Path(word).exists()]
    own, settings = _own([word for word in words if word not in places])
    if not places:
        raise UsageError(f"compare needs runs (folders or results.csv), or repeats= and settings files. {EXAMPLES}")
    if "repeats" in own:
        return _repeat(places, own, settings)
    if settings:
        raise UsageError(
            f"compare does not know {settings[0]}: runs that are there have their settings. "
            f"There is: {', '.join(f'{name}=' for name in OWN)}."
        )
    described = [word for word in places if word.endswith((".yaml", ".yml"))]
    if described:
        raise UsageError(f"{described[0]} is a file of settings, no run. To run it first, say how often: repeats=3.")
    from sightline.artifacts.run_dir import increment_path
    from sightline.doctor.compare import compare as side_by_side

    found = side_by_side(places, metric=own.get("metric"), at=own.get("at", "end"))
    return _show(found, Path(own["save_dir"]) if "save_dir" in own else increment_path("runs/compare/compare"))


def _repeat(files: Sequence[str], own: dict[str, str], settings: Sequence[str]) -> int:
    from sightline.cli.run import run
    from sightline.doctor.compare import check_epoch, compare_recipes
    from sightline.doctor.repeats import Repeats, default_folder

    repeats = smart_value(own["repeats"])
    if not isinstance(repeats, int) or isinstance(repeats, bool):
        raise SettingTypeError(f"repeats={own['repeats']} is not allowed. It must be a whole number from 1.")
    at = check_epoch(own.get("at", "end"))  # before hours of training
    given = parse_command_line(["train", *settings]).overrides
    folder = Path(own["save_dir"]) if "save_dir" in own else default_folder(files)
    plan = Repeats(files, repeats, folder, words=settings, given=given)
    try:
        code = plan.run(run)
    except Interrupted as end:
        LOGGER.info("The comparison goes on with the same command; what is done is kept.")
        return 128 + end.signal
    if code != 0:
        return code
    return _show(compare_recipes(plan.recipes(), metric=own.get("metric"), at=at), folder)


def _show(found: Comparison, folder: Path) -> int:
    from sightline.doctor.compare import write

    for line in found.lines():
        print(line)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}. Choose another place with save_dir=.") from None
    picture, numbers = write(found, folder)
    print(f"curves in {picture}, numbers in {numbers}")
    return 0


def _own(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Our own words by name, and the others."""
    own: dict[str, str] = {}
    rest = []
    for word in words:
        name, value = word.removeprefix("--").split("=", 1)
        if name in OWN:
            own[name] = value
        else:
            rest.append(word)
    return own, rest
