"""Settings as scripts pass them on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.config.load import settings_of_run
from sightline.config.settings import DEFAULTS, Settings

DEFAULT_CFG = Settings()
DEFAULT_CFG_DICT: dict[str, Any] = dict(DEFAULTS)


def get_cfg(
    cfg: Settings | Mapping[str, Any] | str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """One checked Settings object out of defaults (or a file, or a dict) and what comes on top.

    Raises:
        SettingsError: a setting is wrong.
    """
    return settings_of_run(cfg, overrides or {}, "")
