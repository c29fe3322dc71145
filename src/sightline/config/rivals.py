"""Settings that say one thing in two ways. What comes later wins as a pair; side by side they are an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from sightline.errors import SettingValueError
from sightline.log import LOGGER

# The one that decides where it is given → the one that it replaces.
RIVALS = {"accumulate": "nbs", "scheduler": "cos_lr", "warmup_steps": "warmup_epochs"}


def refuse_both(layer: Mapping[str, Any], defaults: Mapping[str, Any], *, is_file: bool) -> None:
    """Both in one layer: nobody could say which of them was meant.

    Args:
        layer: setting → value, as one file, the command line or one call gave them.
        defaults: setting → default.
        is_file: files of settings are often complete (args.yaml), so a default in one asks for nothing.

    Raises:
        SettingValueError: naming both.
    """
    for name, other in RIVALS.items():
        if layer.get(name) is None or other not in layer:
            continue
        if name == "scheduler":  # cos_lr=False asks for nothing; another curve than True is refused by Settings
            continue
        if not (is_file and layer[other] == defaults[other]):
            raise SettingValueError(
                f"{name}={layer[name]} and {other}={layer[other]} are two ways to say one thing: keep one of them. "
                f"{name} {_MEANS[name]}"
            )


_MEANS = {
    "accumulate": "is the number of batches that make a step, from the first on; nbs is a number of images to reach.",
    "warmup_steps": "counts steps of the optimizer, warmup_epochs epochs.",
}


def replaced_by(given: Iterable[str]) -> set[str]:
    """Settings of an earlier layer that these take the place of."""
    given = set(given)
    pairs = [*RIVALS.items(), *((other, name) for name, other in RIVALS.items())]
    return {other for name, other in pairs if name in given and other not in given}


def replace(
    values: dict[str, Any],
    origins: dict[str, str],
    layer: Mapping[str, Any],
    origin: str,
    defaults: Mapping[str, Any],
    *,
    silent: Set[str],
    quiet: bool,
) -> None:
    """Put the rivals of what this layer gives back to their defaults, in `values` and `origins`, and say so.

    `silent` are origins that ask for nothing, such as "default".
    """
    given = [name for name, value in layer.items() if value is not None]
    for other in replaced_by(given) - set(layer):
        before = origins.get(other)
        if before is None or before in silent or values[other] == defaults[other]:
            continue
        if not quiet:
            name = next(name for name in given if other in replaced_by([name]))
            LOGGER.info(f"{name}={layer[name]} ({origin}) takes the place of {other}={values[other]} ({before})")
        values[other] = defaults[other]
        origins.pop(other)
