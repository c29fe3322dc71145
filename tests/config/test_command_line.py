"""The grammar beyond the recorded cases (those are in tests/golden/test_config_cli.py)."""

from __future__ import annotations

import logging

import pytest

from sightline.config.command_line import merge_equals_args, parse_command_line, smart_value
from sightline.errors import CommandLineError, UnknownSettingError, UsageError


def parsed(text: str) -> tuple:
    return tuple(parse_command_line(text.split()))


@pytest.mark.parametrize(
    "text",
    [
        "detect train model=a.yaml epochs=5",
        "train detect model=a.yaml epochs=5",
        "model=a.yaml train epochs=5 detect",
        "epochs = 5 model= a.yaml train task=detect",
        "mode=train task=detect model=a.yaml epochs =5",
        "--model=a.yaml train --epochs=5, detect",
    ],
)
def test_the_order_of_words_is_free(text: str):
    assert parsed(text) == ("detect", "train", {"model": "a.yaml", "epochs": 5})


def test_bare_switches_mean_true():
    overrides = parsed("predict save_txt nms cache pretrained hide_labels")[2]
    assert overrides == dict.fromkeys(["save_txt", "nms", "cache", "pretrained", "hide_labels"], True)


def test_values_keep_what_looks_like_grammar():
    overrides = parsed("train model=a=b.pt name=001 project=None source=photo(1.jpg classes=[0, 1, 2] data=run,2")[2]
    assert overrides == {
        "model": "a=b.pt",
        "name": "001",
        "project": None,
        "source": "photo(1.jpg",
        "classes": [0, 1, 2],
        "data": "run,2",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "No mode is given"),
        ("model=a.pt data=b.yaml", "No mode is given"),
        ("trian model=a.pt", "Did you mean train"),
        ("mode=trian", "Did you mean train"),
        ("detect", "No mode is given"),
        ("export model=a.pt", "not in sightline yet"),
        ("segment train", "not in sightline yet"),
        ("task=banana train", "banana"),
        ("train val", "Two modes"),
        ("train mode=val", "Two modes"),
        ("train epochs", "epochs=100"),
        ("train --epochs 5", "epochs=100"),
        ("train model", "model=value"),
        ("train source=", "source"),
        ("train source= model=a.pt", "source"),  # an empty shell variable, not the value `model=a.pt`
        ("=5 train", "no setting before"),
        ("train classes=[0,1", "do not match"),
        ("train classes=[0]]", "do not match"),
        ("train epochs=5 epochs=6", "given twice"),
        ("train 5", "'5'"),
        ("train bananas", "setting=value"),
    ],
)
def test_what_cannot_be_read_is_a_usage_error(text: str, expected: str):
    with pytest.raises(CommandLineError) as caught:
        parsed(text)
    assert expected in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["train epoch=5", "train half", "train half=True", "val quantize=8", "train --lr=1"])
def test_unknown_settings_are_usage_errors(text: str):
    with pytest.raises(UnknownSettingError) as caught:
        parsed(text)
    assert isinstance(caught.value, UsageError)


def test_forgiven_dashes_and_commas_are_said(caplog):
    with caplog.at_level(logging.WARNING, logger="sightline"):
        parsed("train --epochs=5,")
    assert "'--epochs=5,' is read as 'epochs=5'" in caplog.text


@pytest.mark.parametrize("name", ["source", "data", "model", "cfg", "save_dir", "name", "project"])
def test_a_path_may_be_a_number(name: str):
    assert parse_command_line(["predict", f"{name}=2024"]).overrides == {name: "2024"}


@pytest.mark.parametrize(("text", "word"), [("detct train", "detect"), ("trian", "train")])
def test_a_misspelt_word_is_recognised(text: str, word: str):
    with pytest.raises(CommandLineError, match=f"Did you mean {word}"):
        parse_command_line(text.split())


@pytest.mark.parametrize("text", ["[" * 5000, "__import__('os').system('x')", "a\x00b", "9" * 5000, "{[]: 1}"])
def test_hostile_values_are_text(text: str):
    assert smart_value(text) == text


def test_merging_keeps_all_letters():
    words = ["train", "a", "=", "[1,", "(2,", "3)]", "b=", "x", "c"]
    assert "".join(merge_equals_args(words)) == "".join(words)
    assert merge_equals_args(words) == ["train", "a=[1,(2,3)]", "b=x", "c"]


@pytest.mark.parametrize(
    ("word", "meant"), [("cells.yaml", "data=cells.yaml or model=cells.yaml"), ("best.pt", "model=best.pt")]
)
def test_a_bare_file_is_answered_with_the_setting_it_was_meant_for(word: str, meant: str):
    with pytest.raises(CommandLineError, match=f"Did you mean {meant}"):
        parse_command_line(["train", word])
