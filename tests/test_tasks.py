"""The table of tasks names parts that exist."""

from __future__ import annotations

from dataclasses import fields

import pytest

from sightline.errors import SettingValueError
from sightline.tasks import TASKS, Task, get_task


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("part", [field.name for field in fields(Task)])
def test_every_part_loads(name: str, part: str):
    assert isinstance(get_task(name).load(part), type)


@pytest.mark.parametrize("name", TASKS)
def test_trainer_and_validator_are_of_their_task(name: str):
    assert get_task(name).load("trainer").task == name
    assert get_task(name).load("validator").task == name


def test_a_task_that_is_not_there_names_those_that_are():
    with pytest.raises(SettingValueError, match="detect"):
        get_task("depth")
