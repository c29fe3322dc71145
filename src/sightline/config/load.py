"""Putting a `Settings` object together: defaults < preset < YAML file < command line or keywords.

Each value keeps its origin. The grammar of the command line stands in command_line.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sightline.config import names, rivals, table
from sightline.config.command_line import CommandLine, parse_command_line
from sightline.config.groups import MODE_DEFAULTS
from sightline.config.settings import AUTO, CODE, DEFAULT, DEFAULTS, PRESET, Settings
from sightline.config.support import check_supported
from sightline.errors import MissingSettingsFileError, SettingsError, SettingTypeError, SettingValueError
from sightline.log import LOGGER

__all__ = [
    "CommandLine",
    "Overrides",
    "make_settings",
    "parse_command_line",
    "read_settings_file",
    "settings_of_run",
    "to_yaml",
]


class Overrides(dict[str, Any]):
    """What a person asked for, as the plain dict that subclasses of a trainer know; it remembers how it was made."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._made_with = dict(values)

    def changed(self) -> dict[str, Any]:
        """What somebody has put into it since."""
        before = self._made_with
        return {name: value for name, value in self.items() if name not in before or before[name] is not value}

    def are_in(self, settings: Settings) -> bool:
        """Whether these settings hold what was asked for. A trainer may pass others on, such as the defaults."""
        return all(settings.is_user_set(name) for name in self._made_with if name in DEFAULTS)


def make_settings(
    mode: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    cfg: str | Path | None = None,
    origin: str = CODE,
    base: Settings | None = None,
    preset: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Settings:
    """The settings of one run.

    Args:
        mode: train, val or predict.
        overrides: what was asked for on the command line or by keyword; a `cfg` in it names the YAML file.
        cfg: a YAML file of settings.
        origin: what `overrides` are recorded as: "command line" or "code".
        base: settings to start from instead of the defaults, such as those of a checkpoint.
        preset: named values below the YAML file.
        quiet: leave out warnings (old names, settings that the mode does not read): they are given elsewhere.

    Raises:
        UnknownSettingError, SettingTypeError, SettingValueError: the message begins with the file it concerns.
        MissingSettingsFileError: there is no such YAML file.
    """
    wanted = dict(overrides or {})
    file = cfg if cfg is not None else wanted.get("cfg")
    wanted.pop("mode", None)  # the caller's `mode` is the one that runs
    # The names first: a misspelt one must be reported before anything else about the values.
    wanted = names.current_names(wanted, DEFAULTS, quiet=quiet)

    layers: list[tuple[str, Mapping[str, Any]]] = [(PRESET, preset or {})]
    if file is not None:
        file = _file_name(file)
        layers.append((f"file:{Path(file).name}", {**read_settings_file(file, quiet=quiet), "cfg": file}))
    layers.append((origin, wanted))

    values = dict(DEFAULTS) if base is None else dict(base.copy().items())
    origins = {} if base is None else base.origins()
    for name, value in MODE_DEFAULTS.get(mode, {}).items():
        if base is None or not base.is_user_set(name):
            values[name], origins[name] = value, DEFAULT
    for layer_origin, layer in layers:
        _check_alone(mode, layer, layer_origin)
        rivals.replace(values, origins, layer, layer_origin, DEFAULTS, silent={DEFAULT, AUTO}, quiet=quiet)
        values.update(layer)
        origins.update(dict.fromkeys(layer, layer_origin))
    values["mode"], origins["mode"] = mode, DEFAULT  # an unknown mode fails the check of that setting

    settings = Settings.from_dict(values, origins)
    if not quiet:
        _warn_unread(mode, wanted)
    return settings


def settings_of_run(
    cfg: Settings | Mapping[str, Any] | str | Path | None, overrides: Mapping[str, Any], task: str
) -> Settings:
    """One checked Settings object out of what a trainer was given.

    Args:
        cfg: a Settings object, a dict, a YAML file or None for the defaults.
        overrides: settings on top. Of `Overrides` that are in `cfg`, only what changed since they were made.
        task: what the trainer is for; "" leaves the choice to the settings.

    Raises:
        SettingsError: a setting is wrong, cannot run yet, or names another task.
    """
    if isinstance(cfg, Settings):
        changed = overrides
        if isinstance(overrides, Overrides) and overrides.are_in(cfg):
            changed = overrides.changed()
        settings = make_settings("train", changed, base=cfg)
    elif isinstance(cfg, Mapping):
        settings = make_settings("train", {**cfg, **overrides})
    else:
        settings = make_settings("train", overrides, cfg=cfg)
    if task and settings.task != task:
        if settings.is_user_set("task"):
            raise SettingValueError(f"task={settings.task}, but this trainer is for task={task}. Leave `task` out.")
        settings.assign("task", task, origin="auto")
    check_supported(settings)
    return settings


def read_settings_file(path: str | Path, *, quiet: bool = False) -> dict[str, Any]:
    """The settings in a YAML file, under their current names. `mode` and an old run's own folder are left out.

    An argument of the reference that is not here yet may stand in the file at the reference's default (as in every
    complete file of settings made there): then it asks for nothing, and one line in the log says so.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingSettingsFileError(f"cfg={path}: there is no such file{_near_file(file)}.")
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise SettingTypeError(f"{file} is nested too deeply for a file of settings.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split())
        raise SettingTypeError(f"{file} cannot be read as YAML: {detail}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise SettingTypeError(f"{file} must hold lines `setting: value`, but it holds a {type(values).__name__}.")
    passed = [name for name, value in values.items() if name in names.LATER and value == names.LATER[name].default]
    if passed and not quiet:
        LOGGER.info(
            f"{file}: passed over {len(passed)} arguments that sightline does not have yet, all at their default."
        )
    values = {name: value for name, value in values.items() if name not in passed and name not in ("mode", "cfg")}
    if values.get("save_dir") is not None and Path(str(values["save_dir"])).resolve() == file.parent.resolve():
        del values["save_dir"]  # the args.yaml of an earlier run: its results must not be overwritten by this one
    try:
        return names.current_names(values, DEFAULTS, quiet=quiet)
    except SettingsError as error:
        raise _in_file(error, file.name) from None


def to_yaml(settings: Settings, **resolved: Any) -> str:
    """The text of args.yaml: every setting, and as a comment where it came from if it is no default.

    `resolved` are values that only the run knows, such as the folder that `project` and `name` led to.
    """
    lines = []
    for name, value in {**settings.to_dict(), **resolved}.items():
        first, *rest = yaml.safe_dump({name: value}, allow_unicode=True, sort_keys=False, width=10_000).splitlines()
        origin = settings.origin(name)
        lines += [f"{first}  # {origin}" if origin != DEFAULT else first, *rest]
    return "\n".join(lines) + "\n"


def _check_alone(mode: str, layer: Mapping[str, Any], origin: str) -> None:
    """Check one layer by itself, so that an error in a file names the file even where a keyword would win."""
    if not origin.startswith("file:") or not layer:
        rivals.refuse_both(layer, DEFAULTS, is_file=False)
        return
    try:
        rivals.refuse_both(layer, DEFAULTS, is_file=True)
        Settings(**{"mode": mode, **layer})
    except SettingsError as error:
        raise _in_file(error, origin.removeprefix("file:")) from None


def _in_file(error: SettingsError, file: str) -> SettingsError:
    return type(error)("\n".join(f"{file}: {line}" for line in str(error).splitlines()))


def _file_name(value: Any) -> str:
    if not isinstance(value, (str, Path)):
        raise SettingTypeError(f"cfg={value!r} is not allowed. It must be the path of a YAML file of settings.")
    return str(value)


def _near_file(file: Path) -> str:
    """A hint at the same name with another suffix, or nothing."""
    near = [file.with_suffix(suffix) for suffix in (".yaml", ".yml") if file.with_suffix(suffix).is_file()]
    return f"; did you mean {near[0]}?" if near else f" (looked in {file.absolute().parent})"


def _warn_unread(mode: str, wanted: Mapping[str, Any]) -> None:
    unread = [name for name in wanted if mode not in table.ROW[name].modes]
    if unread:
        LOGGER.warning(f"{', '.join(unread)}: not read by {mode}, so without effect here.")
