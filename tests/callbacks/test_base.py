"""Functions and objects that listen to the moments of a run."""

from __future__ import annotations

import pytest

from sightline.callbacks.base import EVENTS, Callback, CallbackHost
from sightline.errors import SettingValueError


class Listener(Callback):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_train_start(self, trainer: object) -> None:
        self.heard.append("start")

    def teardown(self, trainer: object) -> None:
        self.heard.append("teardown")


def test_an_object_listens_to_the_moments_it_names():
    listener, host = Listener(), CallbackHost()
    host.attach(listener)
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
