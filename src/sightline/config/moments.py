"""Moments of a run as settings write them: a number of epochs (300), or a share of the run (0.5)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from sightline.config.kinds import as_number, wrong_value

Moment = int | float


def as_moment(value: Any) -> Moment:
    """A whole number of epochs from 1, or a share of the run between 0 and 1."""
    number = as_number(value)
    if 0 < number < 1:
        return number
    if number < 1 or not number.is_integer():
        raise wrong_value("" if number < 1 else "above 1, epochs are whole")
    return int(number)


def as_moments(value: Any) -> Moment | list[Moment]:
    """One moment, or a list of several in any order."""
    if not isinstance(value, (list, tuple)):
        return as_moment(value)
    moments = [as_moment(each) for each in value]
    if not moments:
        raise wrong_value("the list is empty")
    if len(set(moments)) < len(moments):
        raise wrong_value("a moment is there twice")
    return moments


def epoch_of(moment: Moment, epochs: int) -> int:
    """How many epochs of a run of `epochs` are over at that moment: 0.5 is 300 in a run of 600."""
    return round(moment * epochs) if moment < 1 else int(moment)


Moments = Annotated[int | float | list[int | float], BeforeValidator(as_moments)]
