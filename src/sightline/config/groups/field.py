"""What every field of the groups is made with."""

from __future__ import annotations

from typing import Any

from pydantic import Field

ALL = ("train", "val", "predict")


def setting(default: Any, meaning: str, *modes: str, allowed: str = "", new: bool = False, **limits: Any) -> Any:
    """A field. `allowed` describes what the type and `limits` (ge, le, gt, lt) cannot say."""
    extra: dict[str, Any] = {"modes": list(modes or ALL), "allowed": allowed, "new": new}
    return Field(default, description=meaning, json_schema_extra=extra, **limits)
