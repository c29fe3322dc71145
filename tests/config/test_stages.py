"""Lists of stages: what is accepted, and what holds in each epoch."""

from __future__ import annotations

import pytest

from sightline.config.load import make_settings, parse_command_line, to_yaml
from sightline.config.settings import Settings
from sightline.config.stages import stage_number, values_at
from sightline.errors import SettingsError

ISSUE = [{"until": 100, "box": 1.5, "cls": 0.8, "dfl": 0.5}, {"until": 450}, {"box": 0.7, "cls": 1.2, "dfl": 1.3}]
ONE = dict.fromkeys(("box", "cls", "dfl"), 1.0)


def at(schedule, epoch, epochs=600):
    return tuple(values_at(schedule, epoch, epochs, ONE).values())


def test_factors_by_range():
    assert [at(ISSUE, epoch) for epoch in (0, 99)] == [(1.5, 0.8, 0.5)] * 2
    assert [at(ISSUE, epoch) for epoch in (100, 449)] == [(1.0, 1.0, 1.0)] * 2
    assert [at(ISSUE, epoch) for epoch in (450, 599, 5000)] == [(0.7, 1.2, 1.3)] * 3
    assert [stage_number(ISSUE, epoch, 600) for epoch in (0, 99, 100, 449, 450)] == [1, 1, 2, 2, 3]


def test_shares_of_the_run_and_an_end():
    schedule = [{"until": 0.5, "box": 2.0}, {"until": 0.75, "cls": 3.0}]
    assert [at(schedule, epoch, 8)[:2] for epoch in range(8)] == [(2, 1)] * 4 + [(1, 3)] * 2 + [(1, 1)] * 2
    assert stage_number(schedule, 7, 8) == 3


def test_a_transition_is_a_line_between_what_held_and_what_will():
    schedule = [{"until": 2, "box": 2.0}, {"until": 6, "box": 1.0, "transition": 3}, {"box": 0.0, "transition": 1}]
    assert [at(schedule, epoch)[0] for epoch in range(8)] == [2, 2, 1.75, 1.5, 1.25, 1.0, 0.5, 0.0]
    # A stage that ends before its transition does: the next one goes on from where it was.
    cut = [{"until": 1, "box": 4.0}, {"until": 2, "box": 0.0, "transition": 3}, {"box": 1.0, "transition": 1}]
    assert [at(cut, epoch)[0] for epoch in range(4)] == [4, 3, 2, 1]


def test_a_stage_whose_end_is_past_is_left_out():
    schedule = [{"until": 100, "box": 2.0}, {"until": 0.5, "box": 3.0}, {"box": 4.0}]
    assert [at(schedule, epoch, 120)[0] for epoch in (99, 100)] == [2, 4]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "empty"),
        ({"box": 1}, "a list of stages"),
        (3, "loss_schedule"),
        ([{"box": 1.0}, {"cls": 1.0}], "stage 1 has no `until`"),
        ([{"until": 5}, {"until": 5}, {}], "must grow"),
        ([{"until": 0.5}, {"until": 0.2}, {}], "must grow"),
        ([{"until": 5, "bx": 1.0}], "'bx'; it may have until, transition, box, cls, dfl"),
        ([{"until": 5, "box": -1}], "from 0"),
        ([{"until": 5, "box": True}], "loss_schedule"),
        ([{"until": 0}], "loss_schedule"),
        ([{"until": 5, "box": 1, "box_loss": 2}], "box twice"),
        ([{"until": 5, "transition": 2}], "nothing before it"),
        ([{"until": 5}, {"transition": 1.5}], "number of epochs"),
        ([5], "stage 1 is 5"),
        ("[{until: 100, box", "quote it"),
    ],
)
def test_what_is_no_schedule(value, message):
    with pytest.raises(SettingsError, match="loss_schedule") as problem:
        Settings(loss_schedule=value)
    assert message in str(problem.value)


def test_augmentation_has_ranges():
    stages = [{"until": 0.5, "mosaic": 1, "degrees": 5}, {"mosaic_prob": 0.5, "mixup": 0.1, "transition": 4}]
    assert Settings(augment_schedule=stages).augment_schedule == stages
    for wrong in ({"mosaic": 1.5}, {"degrees": 400}, {"hsv_h": 0.1}):
        with pytest.raises(SettingsError, match="augment_schedule"):
            Settings(augment_schedule=[wrong])
    with pytest.raises(SettingsError, match="rect=True combines no images"):
        Settings(augment_schedule=stages, rect=True)
    assert Settings(augment_schedule=[{"degrees": 5}], rect=True).rect


@pytest.mark.parametrize(
    "words",
    [
        ["loss_schedule=[{until: 100, box: 1.5, cls_loss: 0.8}, {box: 0.7}]"],
        ["loss_schedule=[{until:", "100,", "box:1.5,", "cls_loss:0.8},", "{box:0.7}]"],  # the shell split it
        ["loss_schedule=[{'until': 100, 'box': 1.5, 'cls': 0.8}, {'box': 0.7}]"],
    ],
)
def test_on_the_command_line(words):
    line = parse_command_line(["train", *words])
    settings = make_settings("train", line.overrides)
    assert settings.loss_schedule == [{"until": 100, "box": 1.5, "cls": 0.8}, {"box": 0.7}]


def test_in_a_file_and_back(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("loss_schedule:\n  - {until: 0.5, box: 1.5}\n  - {}\n")
    settings = make_settings("train", {}, cfg=file)
    assert settings.loss_schedule == [{"until": 0.5, "box": 1.5}, {}]
    (tmp_path / "args.yaml").write_text(to_yaml(settings))
    assert make_settings("train", {}, cfg=tmp_path / "args.yaml").loss_schedule == settings.loss_schedule
