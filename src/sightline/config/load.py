"""Putting a `Settings` object together: defaults < preset < model file < YAML file < command line or keywords.

Each value keeps its origin. The grammar of the command line stands in command_line.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sightline.config import names, rivals, table
from sightline.config.command_line import CommandLine, parse_command_line
from sightline.config.groups import MODE_DEFAULTS
from sightline.config.preset import NOT_IN_A_PRESET, preset_file
from sightline.config.settings import AUTO, CODE, DEFAULT, DEFAULTS, MODEL_FILE, PRESET, Settings
from sightline.config.stages import AUGMENTATIONS
from sightline.config.support import check_supported
from sightline.errors import MissingSettingsFileError, SettingsError, SettingTypeError, SettingValueError
from sightline.log import LOGGER

__all__ = [
    "RECIPES",
    "CommandLine",
    "Overrides",
    "make_settings",
    "parse_command_line",
    "read_settings_file",
    "settings_of_run",
    "to_yaml",
]


RECIPES = (PRESET, MODEL_FILE)  # origins of values that somebody else thought of, below the user's own


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
    in_model_file: Callable[[str], Mapping[str, Any]] | None = None,
    quiet: bool = False,
) -> Settings:
    """The settings of one run.

    Args:
        mode: train, val or predict.
        overrides: what was asked for on the command line or by keyword; a `cfg` in it names the YAML file.
        cfg: a YAML file of settings.
        origin: what `overrides` are recorded as: "command line" or "code".
        base: settings to start from instead of the defaults, such as those of a checkpoint.
        preset: values below all files, in the place of those that the setting `preset` names.
        in_model_file: gives the settings that the description of a network carries, from its name.
        quiet: leave out warnings (old names, settings that the mode does not read): they are given elsewhere.

    Raises:
        UnknownSettingError: no setting has this name; messages begin with the file they concern.
        SettingTypeError: a value has the wrong type.
        SettingValueError: a value is out of range, or two do not go together.
        MissingSettingsFileError: there is no such YAML file.
    """
    wanted = dict(overrides or {})
    file = cfg if cfg is not None else wanted.get("cfg")
    wanted.pop("mode", None)  # the caller's `mode` is the one that runs
    # The names first: a misspelt one must be reported before anything else about the values.
    wanted = names.current_names(wanted, DEFAULTS, quiet=quiet)

    above: list[_Layer] = []
    if file is not None:
        file = _file_name(file)
        content = {**read_settings_file(file, quiet=quiet), "cfg": file}
        above.append(_Layer(f"file:{Path(file).name}", content, Path(file).name))
    above.append(_Layer(origin, wanted))
    layers = [*_recipes(above, base, preset, in_model_file, quiet=quiet), *above] if mode == "train" else above

    values = dict(DEFAULTS) if base is None else dict(base.copy().items())
    origins = {} if base is None else base.origins()
    for name, value in MODE_DEFAULTS.get(mode, {}).items():
        if base is None or not base.is_user_set(name):
            values[name], origins[name] = value, DEFAULT
    for layer in layers:
        _check_alone(mode, layer)
        new = layer.without(origins) if base is not None else layer.values
        rivals.replace(values, origins, new, layer.origin, DEFAULTS, silent={DEFAULT, AUTO}, quiet=quiet)
        values.update(new)
        origins.update(dict.fromkeys(new, layer.origin))
    _own_values_win(values, origins, quiet=quiet)
    values["mode"], origins["mode"] = mode, DEFAULT  # an unknown mode fails the check of that setting

    settings = Settings.from_dict(values, origins)
    if not quiet:
        _warn_unread(mode, wanted)
    return settings


class _Layer(NamedTuple):
    """Values of one origin. `file` is what an error about them begins with."""

    origin: str
    values: Mapping[str, Any]
    file: str = ""

    def without(self, origins: Mapping[str, str]) -> Mapping[str, Any]:
        """What is left where settings to start from have values of a higher origin."""
        if self.origin not in RECIPES:
            return self.values
        taken = {name for name, origin in origins.items() if _rank(origin) > _rank(self.origin)}
        taken |= rivals.replaced_by(taken)
        return {name: value for name, value in self.values.items() if name not in taken}


def _own_values_win(values: dict[str, Any], origins: dict[str, str], *, quiet: bool) -> None:
    """Take out of a recipe's `augment_schedule` what the user has said a value for: it would not be in force."""
    schedule, origin = values["augment_schedule"], origins.get("augment_schedule", DEFAULT)
    if origin not in RECIPES or not isinstance(schedule, list):
        return
    own = [name for name in AUGMENTATIONS if _rank(origins.get(name, DEFAULT)) > _rank(origin)]
    kept = [{key: value for key, value in stage.items() if key not in own} for stage in schedule]
    if kept != schedule:
        values["augment_schedule"] = kept
        if not quiet:
            said = ", ".join(f"{name}={values[name]}" for name in own)
            LOGGER.info(f"{said} of your own: augment_schedule of the {origin} leaves it alone")


def _rank(origin: str) -> int:
    order = (DEFAULT, AUTO, *RECIPES)
    return order.index(origin) if origin in order else len(order)


def _recipes(
    above: Sequence[_Layer],
    base: Settings | None,
    preset: Mapping[str, Any] | None,
    in_model_file: Callable[[str], Mapping[str, Any]] | None,
    *,
    quiet: bool,
) -> list[_Layer]:
    """The layers below the user's own: preset and model file. A run that goes on has its settings already."""
    asked = {name: value for layer in above for name, value in layer.values.items()}
    if asked.get("resume", base is not None and base.resume):
        new = above[-1].values.get("preset")
        if new is not None:
            raise SettingValueError(
                f"preset={new} with resume: a run that goes on has the settings it began with. Leave preset out, and "
                "give the settings that are to change one by one."
            )
        return []
    model = asked.get("model", None if base is None else base.model)
    carried = {} if in_model_file is None or model is None else dict(in_model_file(str(model)))
    layers = [_Layer(MODEL_FILE, carried, Path(str(model)).name)] if carried else []
    named = asked.get("preset", carried.get("preset"))
    if named is not None and preset is None:
        file = preset_file(_file_name(named, "preset"))
        preset = read_settings_file(file, quiet=quiet)
        wrong = [name for name in NOT_IN_A_PRESET if name in preset]
        if wrong:
            raise SettingValueError(f"{file.name}: {wrong[0]}={preset[wrong[0]]} cannot stand in a preset. Remove it.")
        return [_Layer(PRESET, preset, file.name), *layers]
    return [_Layer(PRESET, preset or {}), *layers]


def settings_of_run(
    cfg: Settings | Mapping[str, Any] | str | Path | None,
    overrides: Mapping[str, Any],
    task: str,
    in_model_file: Callable[[str], Mapping[str, Any]] | None = None,
) -> Settings:
    """One checked Settings object out of what a trainer was given.

    Args:
        cfg: a Settings object, a dict, a YAML file or None for the defaults.
        overrides: settings on top. Of `Overrides` that are in `cfg`, only what changed since they were made.
        task: what the trainer is for; "" leaves the choice to the settings.
        in_model_file: as for `make_settings`.

    Raises:
        SettingsError: a setting is wrong, cannot run yet, or names another task.
    """
    if isinstance(cfg, Settings):
        changed = overrides
        if isinstance(overrides, Overrides) and overrides.are_in(cfg):
            changed = overrides.changed()
        settings = make_settings("train", changed, base=cfg, in_model_file=in_model_file)
    elif isinstance(cfg, Mapping):
        settings = make_settings("train", {**cfg, **overrides}, in_model_file=in_model_file)
    else:
        settings = make_settings("train", overrides, cfg=cfg, in_model_file=in_model_file)
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


def _check_alone(mode: str, layer: _Layer) -> None:
    """Check one layer by itself, so that an error in a file names the file even where a keyword would win."""
    if not layer.file:
        rivals.refuse_both(layer.values, DEFAULTS, is_file=False)
        return
    try:
        rivals.refuse_both(layer.values, DEFAULTS, is_file=True)
        Settings(**{"mode": mode, **layer.values})
    except SettingsError as error:
        raise _in_file(error, layer.file) from None


def _in_file(error: SettingsError, file: str) -> SettingsError:
    return type(error)("\n".join(f"{file}: {line}" for line in str(error).splitlines()))


def _file_name(value: Any, setting: str = "cfg") -> str:
    if not isinstance(value, (str, Path)):
        raise SettingTypeError(f"{setting}={value!r} is not allowed. It must be the path of a YAML file of settings.")
    return str(value)


def _near_file(file: Path) -> str:
    """A hint at the same name with another suffix, or nothing."""
    near = [file.with_suffix(suffix) for suffix in (".yaml", ".yml") if file.with_suffix(suffix).is_file()]
    return f"; did you mean {near[0]}?" if near else f" (looked in {file.absolute().parent})"


def _warn_unread(mode: str, wanted: Mapping[str, Any]) -> None:
    unread = [name for name in wanted if mode not in table.ROW[name].modes]
    if unread:
        LOGGER.warning(f"{', '.join(unread)}: not read by {mode}, so without effect here.")
