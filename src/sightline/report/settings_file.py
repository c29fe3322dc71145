"""args.yaml as the page shows it: every setting with its value, its default, and where it came from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sightline.config.settings import DEFAULTS

ORIGIN = re.compile(r"^([A-Za-z_]\w*):.*?  # (.+)$")  # as `config.load.to_yaml` writes it
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class RunSetting:
    """One setting of a run: its value, that of the defaults where there is one, and the origin as args.yaml has it."""

    name: str
    value: Any
    default: Any
    origin: str


def read_settings(file: Path) -> list[RunSetting]:
    """All settings of a run in the order of the file; none where it is missing or of another program."""
    try:
        text = file.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    if not isinstance(values, dict):
        return []
    origins = {match[1]: match[2] for line in text.splitlines() if (match := ORIGIN.match(line))}
    return [
        RunSetting(str(name), value, DEFAULTS.get(str(name)), origins.get(str(name), DEFAULT))
        for name, value in values.items()
    ]
