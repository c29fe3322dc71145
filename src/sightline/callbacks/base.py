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
            on_before_backward                           trainer.loss is there, no gradient of it yet
            on_before_optimizer_step                     this and the next four only when the weights move
            optimizer_step                               gradients are clipped, the weights move next
            on_params_update                             the weights have moved
            on_before_zero_grad                          the last moment of the gradients
            on_after_optimizer_step                      the EMA has followed
            on_train_batch_end
        on_train_epoch_end
        on_val_start, on_val_batch_start, on_val_batch_end, on_val_end      the validator is the argument
        on_model_save
        on_fit_epoch_end
    on_fit_epoch_end                                     once more, after the final validation of best.pt
    on_train_end
    teardown                                             also after an error

At one moment they run in the order in which they were added: the library's own, then those of `YOLO.add_callback`, then
those of `train(callbacks=…)`, then those added to the trainer.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import SettingTypeError, SettingValueError
from sightline.log import LOGGER

if TYPE_CHECKING:
    from sightline.predict.predictor import BasePredictor
    from sightline.train.trainer import BaseTrainer
    from sightline.validate.validator import BaseValidator

TRAIN_EVENTS = (
    "on_pretrain_routine_start",
    "on_pretrain_routine_end",
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_before_backward",
    "on_before_optimizer_step",
    "optimizer_step",
    "on_params_update",
    "on_before_zero_grad",
    "on_after_optimizer_step",
    "on_train_batch_end",
    "on_train_epoch_end",
    "on_model_save",
    "on_fit_epoch_end",
    "on_train_end",
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
    """Override the moments you want; keep what must survive a restart in `state_dict`.

    An object is attached once and listens for as long as its trainer lives. What it keeps in `state_dict` (plain values
    and tensors) is part of last.pt, and comes back through `load_state_dict` when the run is resumed with an object of
    the same class.
    """

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""

    def events(self) -> Iterable[tuple[str, Callable[[Any], Any]]]:
        """The moments this object listens to, with its bound methods."""
        for event in EVENTS:
            # The methods of Callback itself only say what may be overridden.
            if getattr(type(self), event) is not getattr(Callback, event) or event in self.__dict__:
                yield event, getattr(self, event)

    def on_pretrain_routine_start(self, trainer: BaseTrainer) -> None: ...
    def on_pretrain_routine_end(self, trainer: BaseTrainer) -> None: ...
    def on_train_start(self, trainer: BaseTrainer) -> None: ...
    def on_train_epoch_start(self, trainer: BaseTrainer) -> None: ...
    def on_train_batch_start(self, trainer: BaseTrainer) -> None: ...
    def on_before_backward(self, trainer: BaseTrainer) -> None: ...
    def on_before_optimizer_step(self, trainer: BaseTrainer) -> None: ...
    def optimizer_step(self, trainer: BaseTrainer) -> None: ...
    def on_params_update(self, trainer: BaseTrainer) -> None: ...
    def on_before_zero_grad(self, trainer: BaseTrainer) -> None: ...
    def on_after_optimizer_step(self, trainer: BaseTrainer) -> None: ...
    def on_train_batch_end(self, trainer: BaseTrainer) -> None: ...
    def on_train_epoch_end(self, trainer: BaseTrainer) -> None: ...
    def on_model_save(self, trainer: BaseTrainer) -> None: ...
    def on_fit_epoch_end(self, trainer: BaseTrainer) -> None: ...
    def on_train_end(self, trainer: BaseTrainer) -> None: ...
    def teardown(self, trainer: BaseTrainer) -> None: ...
    def on_val_start(self, validator: BaseValidator) -> None: ...
    def on_val_batch_start(self, validator: BaseValidator) -> None: ...
    def on_val_batch_end(self, validator: BaseValidator) -> None: ...
    def on_val_end(self, validator: BaseValidator) -> None: ...
    def on_predict_start(self, predictor: BasePredictor) -> None: ...
    def on_predict_batch_start(self, predictor: BasePredictor) -> None: ...
    def on_predict_postprocess_end(self, predictor: BasePredictor) -> None: ...
    def on_predict_batch_end(self, predictor: BasePredictor) -> None: ...
    def on_predict_end(self, predictor: BasePredictor) -> None: ...
    def on_export_start(self, exporter: Any) -> None: ...
    def on_export_end(self, exporter: Any) -> None: ...


class CallbackHost:
    """What a trainer has of callbacks: the table of functions by event, and the objects among them.

    Args:
        callbacks: event → functions, or a list as `entries` takes it.
        first: objects that listen before those.

    Attributes:
        callbacks: event → functions, called in this order.
        objects: attached Callback objects; their state goes into checkpoints.
    """

    def __init__(self, callbacks: Any = None, first: Iterable[Callback] = ()) -> None:
        self.callbacks: CallbackTable = empty_table()
        self.objects: list[Callback] = []
        for callback in first:
            self.add_callback(callback)
        self.add_callbacks(callbacks)

    def add_callback(self, event: str | Callback, callback: Callable[[Any], Any] | None = None) -> None:
        """Call `callback(self)` at `event`, after those that are there; or let a Callback object listen."""
        for name, function in entries([(event, callback) if isinstance(event, str) else event]):
            self.callbacks[name].append(function)
            owner = getattr(function, "__self__", None)
            if isinstance(owner, Callback) and not any(owner is known for known in self.objects):
                self.objects.append(owner)

    def add_callbacks(self, callbacks: Any) -> None:
        """Add all of a table or list, see `entries`."""
        for event, function in entries(callbacks):
            self.add_callback(event, function)

    def set_callback(self, event: str, callback: Callable[[Any], Any]) -> None:
        """Call only `callback(self)` at `event`."""
        self.callbacks[check_event(event)] = [check_function(event, callback)]

    def run_callbacks(self, event: str) -> None:
        """Call everything that listens to `event`."""
        call_all(self.callbacks.get(event), event, self)


def entries(callbacks: Any) -> list[tuple[str, Callable[[Any], Any]]]:
    """Pairs of event and function, from any of the forms in which people give them.

    Args:
        callbacks: a table {event: function or list of functions}; or a list of any of: Callback objects, such tables,
            pairs (event, function), and functions that bear the name of their event.

    Raises:
        SettingValueError: no such event.
        SettingTypeError: something that cannot be called.
    """
    if callbacks is None:
        return []
    if isinstance(callbacks, Mapping):
        found = []
        for event, functions in callbacks.items():
            several = functions if isinstance(functions, (list, tuple)) else [functions]
            found += [(check_event(event), check_function(event, function)) for function in several]
        return found
    if not isinstance(callbacks, (list, tuple)):
        callbacks = [callbacks]
    return [pair for item in callbacks for pair in _entry(item)]


def _entry(item: Any) -> list[tuple[str, Callable[[Any], Any]]]:
    if isinstance(item, Callback):
        return list(item.events())
    if isinstance(item, Mapping):
        return entries(item)
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
        return [(check_event(item[0]), check_function(*item))]
    if inspect.isclass(item) and issubclass(item, Callback):
        raise SettingTypeError(f"The callback {item.__name__} is a class. Give an object of it: {item.__name__}().")
    if callable(item) and getattr(item, "__name__", None) in EVENTS:
        return [(item.__name__, item)]
    raise SettingTypeError(
        f"{item!r:.80} ({type(item).__name__}) is no callback: it does not say at which event it runs. Give a Callback "
        "object, a pair (event, function), a table {event: function}, or a function with the name of its event."
    )


def call_all(functions: Iterable[Callable[[Any], Any]] | None, event: str, owner: Any) -> None:
    """Call each with `owner`. An exception goes on as it is, with a note that names the callback and the event."""
    for function in list(functions or ()):  # a copy: one that adds another must not make this round longer
        try:
            function(owner)
        except Exception as error:
            note = f"raised by the callback {name_of(function)} at {event}"
            if hasattr(error, "add_note"):
                error.add_note(note)
            else:  # Python 3.10
                LOGGER.error(f"{type(error).__name__} {note}")
            raise


def name_of(function: Any) -> str:
    """`report (train.py:12)`: how a callback is called, and where it stands."""
    inner = inspect.unwrap(getattr(function, "func", function))
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    code = getattr(inner, "__code__", None)
    return name if code is None else f"{name} ({Path(code.co_filename).name}:{code.co_firstlineno})"


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
    near = difflib.get_close_matches(str(event), EVENTS, n=3) or list(EVENTS)
    raise SettingValueError(f"There is no callback event {event!r}. Near names: {', '.join(near)}.")


def check_function(event: str, function: Any) -> Callable[[Any], Any]:
    """The function, if it can be called with one argument.

    Raises:
        SettingTypeError: it cannot.
    """
    if not callable(function):
        raise SettingTypeError(
            f"The callback for {event} is {function!r:.80} ({type(function).__name__}). Give a function of one "
            "argument."
        )
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise SettingTypeError(
            f"The callback {name_of(function)} for {event} cannot be called with one argument, which is what it gets: "
            "the trainer, validator or predictor."
        ) from None
    except ValueError:  # a built-in that does not tell its arguments
        pass
    return function
