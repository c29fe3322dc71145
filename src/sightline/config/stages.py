"""Stages of a run: lists such as `[{until: 100, box: 1.5}, {until: 450}, {box: 0.7}]`, and what holds in an epoch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator

from sightline.config.kinds import as_number, is_whole, wrong_type, wrong_value
from sightline.config.moments import Moment, as_moment, epoch_of

Stage = dict[str, Moment]
UNTIL, TRANSITION = "until", "transition"

# What each schedule moves, and the largest value.
GAINS = dict.fromkeys(("box", "cls", "dfl", "pose", "kobj", "rle"), math.inf)
AUGMENTATIONS = {"mosaic": 1, "mosaic_prob": 1, "mixup": 1, "copy_paste": 1, "degrees": 360, "translate": 1}
# The names of the loss items, by which the gains are known as well.
GAIN_NAMES = {f"{name}_loss": name for name in GAINS}


def as_stages(limits: Mapping[str, float], other_names: Mapping[str, str]) -> Callable[[Any], list[Stage]]:
    """A list of stages, each a dict: `until` (all but the last), `transition`, and numbers by the names in `limits`."""

    def check(value: Any) -> list[Stage]:
        if isinstance(value, str):
            value = _from_text(value)
        if isinstance(value, Mapping) or not isinstance(value, (list, tuple)):
            raise wrong_type("it is a list of stages, each {name: number, until: epoch}")
        if not value:
            raise wrong_value("the list is empty")
        stages = [_stage(number, stage, limits, other_names) for number, stage in enumerate(value, 1)]
        open_ended = [number for number, stage in enumerate(stages[:-1], 1) if UNTIL not in stage]
        if open_ended:
            raise wrong_value(f"stage {open_ended[0]} has no `until`, so those after it would never begin")
        ends = [stage[UNTIL] for stage in stages if UNTIL in stage]
        # Shares and epochs compare only in a run, whose length is known.
        for alike in ([end for end in ends if end < 1], [end for end in ends if end >= 1]):
            if alike != sorted(set(alike)):
                raise wrong_value(f"`until` must grow from stage to stage, but is {', '.join(map(str, ends))}")
        return stages

    return check


def values_at(schedule: Sequence[Stage], epoch: int, epochs: int, base: Mapping[str, float]) -> dict[str, float]:
    """What holds in an epoch, counted from 0.

    A stage ends before epoch `until`; names that it leaves out have the value of `base`, and so has everything after
    the last stage. The first `transition` epochs of a stage lie on the line from what held before to its own values.

    Args:
        schedule: as `as_stages` returns it.
        epochs: length of the run, for `until` and shares of it.
        base: name → value without a schedule, for each name that can be in a stage.
    """
    begin = 0
    for stage in schedule:
        end = epoch_of(stage[UNTIL], epochs) if UNTIL in stage else math.inf
        if epoch < end:
            values = {name: float(stage.get(name, value)) for name, value in base.items()}
            fade = int(stage.get(TRANSITION, 0))
            if begin == 0 or epoch >= begin + fade:
                return values
            before = values_at(schedule, begin - 1, epochs, base)
            part = (epoch - begin + 1) / (fade + 1)
            return {name: before[name] + part * (value - before[name]) for name, value in values.items()}
        begin = max(begin, int(end))
    return {name: float(value) for name, value in base.items()}


def stage_number(schedule: Sequence[Stage], epoch: int, epochs: int) -> int:
    """The stage of an epoch, counted from 1; one more than there are after the last."""
    for number, stage in enumerate(schedule, 1):
        if UNTIL not in stage or epoch < epoch_of(stage[UNTIL], epochs):
            return number
    return len(schedule) + 1


def _stage(number: int, stage: Any, limits: Mapping[str, float], other_names: Mapping[str, str]) -> Stage:
    if not isinstance(stage, Mapping):
        raise wrong_type(f"stage {number} is {stage!r}, not {{name: number, until: epoch}}")
    checked: Stage = {}
    for key, value in stage.items():
        name = other_names.get(key, key)
        if name in checked:
            raise wrong_value(f"stage {number} has {name} twice")
        if name == UNTIL:
            checked[name] = as_moment(value)
        elif name == TRANSITION:
            if not is_whole(value) or value < 0:
                raise wrong_value(f"stage {number} has transition={value!r}, which is a number of epochs from 0")
            checked[name] = int(value)
        elif name in limits:
            checked[name] = as_number(value)
            if not 0 <= checked[name] <= limits[name]:
                most = "" if limits[name] == math.inf else f" to {limits[name]:g}"
                raise wrong_value(f"stage {number} has {name}={value}, which must be from 0{most}")
        else:
            raise wrong_value(f"stage {number} has {key!r}; it may have {', '.join([UNTIL, TRANSITION, *limits])}")
    if number == 1 and checked.get(TRANSITION):
        raise wrong_value("stage 1 has a transition, but there is nothing before it")
    return checked


def _from_text(text: str) -> Any:
    """The list in the words of a shell, which may have taken the spaces that YAML wants behind a colon."""
    try:
        return yaml.safe_load(re.sub(r"([{,]\s*\w+)\s*:\s*", r"\1: ", text))
    except (yaml.YAMLError, RecursionError):
        raise wrong_type("it cannot be read; quote it: '[{until: 100, box: 1.5}, {box: 0.7}]'") from None


LossStages = Annotated[list[dict[str, int | float]], BeforeValidator(as_stages(GAINS, GAIN_NAMES))]
AugmentStages = Annotated[list[dict[str, int | float]], BeforeValidator(as_stages(AUGMENTATIONS, {}))]
