"""What somebody asked for: options of the study apart from settings of its trials, old names, missing extras."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sightline.artifacts.run_dir import FOLDERS
from sightline.errors import MissingExtraError, SettingTypeError, SettingValueError
from sightline.log import LOGGER
from sightline.tune.plan import OPTIONS

EXTRAS = {"optuna": ("optuna",), "ray": ("optuna", "ray")}  # Optuna keeps the trials, whoever runs them
# Arguments of Ultralytics' tuner for which there is another way here.
OTHERWISE = {
    "max_samples": "give trials=",
    "tune_dir": "give project= and name=",
    "evolve_population_size": "there is no population here: method=evolve changes the best five",
}


def options(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the study (`Options` checks them), and the rest, which are settings. Old names become new ones, with
    a line.

    Raises:
        SettingsError: an old name is wrong, or says something else than the new one.
    """
    rest = dict(given)
    for name, how in OTHERWISE.items():
        if name in rest:
            raise SettingValueError(f"{name} is not an argument of tune here: {how}.")
    if rest.get("use_ray") is not None:
        use_ray = rest.pop("use_ray")
        if not isinstance(use_ray, bool):
            raise SettingTypeError(
                f"use_ray={use_ray!r} is not allowed. It must be True or False; engine=ray says so now."
            )
        _take(rest, "engine", "ray" if use_ray else "optuna", f"use_ray={use_ray}")
    if rest.get("iterations") is not None:
        iterations = rest.pop("iterations")
        _take(rest, "trials", iterations, f"iterations={iterations}")
    if "pruner" in rest and rest["pruner"] is None:
        rest["pruner"] = "none"
    changed = {name: rest.pop(name) for name in OPTIONS if name in rest}
    return changed, rest


def _take(rest: dict[str, Any], name: str, value: Any, said: str) -> None:
    if name in rest and rest[name] != value:
        raise SettingValueError(
            f"{said} is an older way to say {name}={value}, and {name}={rest[name]} is given: keep one."
        )
    LOGGER.info(f"{said} is an older name: {name}={value} says the same")
    rest[name] = value


def check_extras(engine: str | None) -> None:
    """
    Raises:
        MissingExtraError: what the engine needs is not installed.
    """
    missing = [name for name in EXTRAS.get(engine or "optuna", ()) if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"engine={engine or 'optuna'} needs {' and '.join(missing)}. Install: "
            f"pip install 'sightline[{','.join(missing)}]'"
        )


def folder_of(resume: str | Path | bool, task: str) -> Path:
    """The folder of the study that `resume=` names."""
    if isinstance(resume, bool):
        return Path("runs", FOLDERS.get(task, task), "tune")
    if not isinstance(resume, (str, Path)):
        raise SettingTypeError(f"resume={resume!r:.80} is not allowed. Give the folder of a study, or True.")
    return Path(resume)
