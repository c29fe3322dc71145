"""sightline: train object detectors. Public names load on first use; importing does nothing else."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sightline.config.settings import Settings
    from sightline.facade import YOLO

_PUBLIC = {
    "YOLO": "sightline.facade",
    "Settings": "sightline.config.settings",
}
__all__ = ["YOLO", "Settings", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sightline' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
