"""The named moments of a run, in the order in which they come.

A callback is a function of one argument (the trainer, validator or predictor), or an object that derives from
`Callback` and overrides the moments it wants.

    on_pretrain_routine_start
    on_pretrain_routine_end
    on_train_start
    for every epoch:
        on_train_epoch_start
        for every batch:
            on_train_batch_start
            on_before_zero_grad, optimizer_step          only when the weights move
            on_train_batch_end
        on_train_epoch_end
        on_val_start, on_val_batch_start, on_val_batch_end, on_val_end      the validator is the argument
        on_model_save
        on_fit_epoch_end
    on_fit_epoch_end                                     once more, after the final validation of best.pt
    on_train_end
    teardown                                             also after an error
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from sightline.errors import SettingValueError

TRAIN_EVENTS = (
    "on_pretrain_routine_start",
    "on_pretrain_routine_end",
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",
    "optimizer_step",
    "on_before_zero_grad",
    "on_train_batch_end",
    "on_train_epoch_end",
    "on_fit_epoch_end",
    "on_model_save",
    "on_train_end",
    "on_params_update",
    "teardown",
)
VAL_EVENTS = ("on_val_start", "on_val_batch_start", "on_val_batch_end", "on_val_end")
PREDICT_EVENTS = (
    "on_predict_start",
    "on_predict_batch_start",
    "on_predict_postprocess_end",
    "on_predict_batch_end",
    "on_predict_end",
)
EXPORT_EVENTS = ("on_export_start", "on_export_end")
EVENTS = TRAIN_EVENTS + VAL_EVENTS + PREDICT_EVENTS + EXPORT_EVENTS

CallbackTable = dict[str, list[Callable[[Any], Any]]]


class Callback:
    """Overrides the methods named after the moments it wants; keeps what must survive a restart in `state_dict`."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""

    def events(self) -> Iterable[tuple[str, Callable[[Any], Any]]]:
        """The moments this object listens to, with its bound methods."""
        for event in EVENTS:
            method = getattr(self, event, None)
            if callable(method):
                yield event, method


class CallbackHost:
    """What a trainer has of callbacks: the table of functions by event, and the objects among them.

    Attributes:
        callbacks: event → functions, called in this order.
        objects: attached Callback objects; their state goes into checkpoints.
    """

    def __init__(self, callbacks: CallbackTable | None = None, first: Iterable[Callback] = ()) -> None:
        self.callbacks: CallbackTable = empty_table()
        self.objects: list[Callback] = []
        for callback in first:
            self.attach(callback)
        for event, functions in (callbacks or {}).items():
            self.callbacks[check_event(event)].extend(functions)

    def attach(self, callback: Callback) -> None:
        """Let an object listen to all the moments it has methods for."""
        self.objects.append(callback)
        for event, method in callback.events():
            self.callbacks[event].append(method)

    def add_callback(self, event: str, callback: Callable[[Any], Any]) -> None:
        """Call `callback(self)` at `event`, after those that are there."""
        self.callbacks[check_event(event)].append(callback)

    def set_callback(self, event: str, callback: Callable[[Any], Any]) -> None:
        """Call only `callback(self)` at `event`."""
        self.callbacks[check_event(event)] = [callback]

    def run_callbacks(self, event: str) -> None:
        """Call everything that listens to `event`."""
        for callback in self.callbacks.get(event, []):
            callback(self)


def empty_table() -> CallbackTable:
    """A list for every moment."""
    return {event: [] for event in EVENTS}


def check_event(event: str) -> str:
    """The event, if there is one of that name.

    Raises:
        SettingValueError: no such event; the message lists near names.
    """
    if event in EVENTS:
        return event
    near = difflib.get_close_matches(event, EVENTS, n=3) or list(EVENTS)
    raise SettingValueError(f"There is no callback event {event!r}. Near names: {', '.join(near)}.")
