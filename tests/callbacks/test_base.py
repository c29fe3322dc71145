"""Functions and objects that listen to the moments of a run."""

from __future__ import annotations

import pytest

from sightline.callbacks.base import EVENTS, Callback, CallbackHost
from sightline.errors import SettingTypeError, SettingValueError


class Listener(Callback):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_train_start(self, trainer: object) -> None:
        self.heard.append("start")

    def teardown(self, trainer: object) -> None:
        self.heard.append("teardown")


def test_an_object_listens_to_the_moments_it_names():
    listener, host = Listener(), CallbackHost()
    host.add_callback(listener)
    for event in EVENTS:
        host.run_callbacks(event)
    assert listener.heard == ["start", "teardown"]


def test_functions_run_in_the_order_in_which_they_came_after_the_built_in_ones():
    order: list[str] = []

    class First(Callback):
        def on_train_end(self, trainer: object) -> None:
            order.append("built in")

    host = CallbackHost({"on_train_end": [lambda _: order.append("given")]}, first=[First()])
    host.add_callback("on_train_end", lambda _: order.append("added"))
    host.run_callbacks("on_train_end")
    assert order == ["built in", "given", "added"]
    host.set_callback("on_train_end", lambda _: order.append("alone"))
    order.clear()
    host.run_callbacks("on_train_end")
    assert order == ["alone"]


def test_a_misspelt_event_names_the_right_one():
    with pytest.raises(SettingValueError, match="on_train_epoch_end"):
        CallbackHost().add_callback("on_train_epoch_ends", print)
    with pytest.raises(SettingValueError, match="on_train_start"):
        CallbackHost({"on_train_strat": [print]})


def test_every_form_of_giving_callbacks_means_the_same():
    heard: list[str] = []

    def on_train_end(trainer: object) -> None:
        heard.append("by its name")

    listener = Listener()
    forms = [
        listener,
        ("on_train_start", lambda _: heard.append("pair")),
        {"on_train_start": lambda _: heard.append("table")},
        {"on_train_start": [lambda _: heard.append("list in a table")]},
        on_train_end,
    ]
    host = CallbackHost(forms)
    host.run_callbacks("on_train_start")
    host.run_callbacks("on_train_end")
    assert heard == ["pair", "table", "list in a table", "by its name"]
    assert listener.heard == ["start"]
    assert host.objects == [listener]  # its state goes into checkpoints
    again = CallbackHost(host.callbacks)  # as a facade hands its table on
    assert again.objects == [listener]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([lambda trainer: None], "does not say at which event"),
        ([Listener], r"is a class. Give an object of it: Listener\(\)"),
        ([("on_train_start", 5)], "Give a function of one argument"),
        ([("on_train_start", lambda: None)], "cannot be called with one argument"),
        ([5], "is no callback"),
    ],
)
def test_what_is_no_callback_is_said_before_the_run(given: list, words: str):
    with pytest.raises(SettingTypeError, match=words):
        CallbackHost(given)


def test_an_exception_names_callback_and_event_and_stays_what_it_is():
    def fails(trainer: object) -> None:
        raise KeyError("mine")

    host = CallbackHost({"on_train_start": fails})
    with pytest.raises(KeyError) as caught:
        host.run_callbacks("on_train_start")
    if hasattr(caught.value, "__notes__"):  # Python 3.11 and later; before that it is in the log
        assert "fails (test_base.py:" in caught.value.__notes__[0]
        assert "at on_train_start" in caught.value.__notes__[0]


def test_callback_has_a_typed_method_for_every_event():
    assert [event for event in EVENTS if not callable(getattr(Callback, event, None))] == []
    assert list(Callback().events()) == []
