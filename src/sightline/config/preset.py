"""Named recipes: the files in presets/, and a user's own. What they say stands below every value of the user's."""

from __future__ import annotations

import difflib
from pathlib import Path

from sightline.errors import SettingValueError

FOLDER = Path(__file__).parent / "presets"
# Settings that say what a run is, not how it is done.
NOT_IN_A_PRESET = ("preset", "cfg", "mode", "resume")


def preset_names() -> list[str]:
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def preset_file(preset: str) -> Path:
    """The file of a preset: one of ours by name (`long-run`, `long_run`), or a YAML file by its path.

    Raises:
        SettingValueError: it is neither; the message lists the names.
    """
    own = Path(preset)
    name = preset.lower().replace("_", "-")
    if own.suffix in (".yaml", ".yml"):
        if own.is_file():
            return own
        name = own.stem.lower().replace("_", "-")
        if own.parent != Path() or name not in preset_names():
            raise SettingValueError(f"preset={preset}: there is no such file. Named presets: {_names()}.")
    if name in preset_names():
        return FOLDER / f"{name}.yaml"
    near = difflib.get_close_matches(name, preset_names(), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise SettingValueError(f"preset={preset} is none of {_names()}, and no YAML file (.yaml).{hint}")


def preset_text(name: str) -> str:
    """What stands in a named preset."""
    return preset_file(name).read_text(encoding="utf-8")


def _names() -> str:
    return ", ".join(preset_names())
