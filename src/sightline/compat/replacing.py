"""For processes that a program started after `enable(replace=True)`: they must replace the real package, too."""

from __future__ import annotations

from sightline.compat import switch


def enable() -> bool:
    """As `sightline.compat.enable(replace=True)`."""
    return switch.enable(replace=True)
