"""A trainer as bytes: to the ranks as it is, and back with what became of it."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle

import sightline
from sightline.callbacks.base import name_of
from sightline.errors import TrainingError
from sightline.train.ema import unwrap

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

# What belongs to the process of a rank and not to the results.
STAYS = frozenset(
    {
        "callbacks", "objects", "checkpoint", "source", "model", "ema", "optimizer", "scheduler", "scaler", "lf",
        "train_loader", "test_loader", "validator", "device", "precision", "loss", "loss_items", "tloss", "grad_norm",
        "guard", "recovery", "micro_batches", "dumps", "rank", "ddp", "live", "schedule", "rank_states",
        "random_before_batches", "settings_before_epoch", "saver", "interrupt",
        "rehearsal", "dry_run_report",
    }
)  # fmt: skip


def pack(trainer: BaseTrainer) -> bytes:
    """The trainer for another process.

    Raises:
        TrainingError: a part of it cannot travel; the message names the part.
    """
    with _by_value():
        try:
            return dumps(trainer)
        except Exception as error:
            raise TrainingError(
                f"{_culprit(trainer)} cannot be sent to the processes that train ({error}). Open files, locks, "
                "connections and generators belong to one process: make them in a callback such as on_train_start, "
                "which runs in each of them."
            ) from error


def results(trainer: BaseTrainer) -> bytes:
    """What the parent gets of rank 0: plain results, the network, the validator, callbacks' states."""
    values = {name: value for name, value in _attributes(trainer).items() if name not in STAYS}
    validator = copy.copy(trainer.validator)
    if validator is not None:
        vars(validator).clear()
        vars(validator).update(_attributes(trainer.validator))
        validator.dataloader = validator.network = None
        validator.callbacks = {}
    with _by_value():
        content = {
            "values": _that_travel(values, trainer),
            "validator": _that_travel({"it": validator}, trainer).get("it"),
            "model": _that_travel({"it": unwrap(trainer.model).cpu()}, trainer).get("it"),
            "callbacks": [callback.state_dict() for callback in trainer.objects],
        }
        return dumps(content, known=trainer)


def unpack(trainer: BaseTrainer, data: bytes) -> None:
    """Put the results of rank 0 into the trainer that sent it."""
    content = _Unpickler(io.BytesIO(data), trainer).load()
    vars(trainer).update(content["values"])
    trainer.validator, trainer.model = content["validator"], content["model"]
    for callback, state in zip(trainer.objects, content["callbacks"], strict=True):
        callback.load_state_dict(state)


def _attributes(owner: Any) -> dict[str, Any]:
    """What an object holds, without what hides methods of its class (the counters of a dry run)."""
    return {name: value for name, value in vars(owner).items() if not callable(getattr(type(owner), name, None))}


def _that_travel(values: dict[str, Any], trainer: BaseTrainer) -> dict[str, Any]:
    """Those that can be written; what a user keeps on the trainer may be a file or a connection."""
    return {name: value for name, value in values.items() if _travels(value, trainer)}


def _travels(value: Any, trainer: BaseTrainer) -> bool:
    try:
        dumps(value, known=trainer)
    except Exception:
        return False
    return True


def _culprit(trainer: BaseTrainer) -> str:
    """The first part that does not travel, in words."""
    if not _travels(type(trainer), trainer):
        return f"The trainer class {type(trainer).__name__}"
    for event, functions in trainer.callbacks.items():
        for function in functions:
            if not _travels(function, trainer):
                return f"The callback {name_of(function)} for {event}"
    for name, value in trainer.args.items():
        if not _travels(value, trainer):
            return f"The setting {name} ({type(value).__name__})"
    for name, value in vars(trainer).items():
        if not _travels(value, trainer):
            return f"The trainer's attribute `{name}` ({type(value).__name__})"
    return "The trainer"


def dumps(value: Any, *, known: Any = None) -> bytes:
    """`cloudpickle.dumps`, but functions remember the file they stand in, which tracebacks show.

    Args:
        known: an object that the reader has already; only a sign stands for it.
    """
    file = io.BytesIO()
    _Pickler(file, known).dump(value)
    return file.getvalue()


class _Pickler(cloudpickle.Pickler):
    def __init__(self, file: io.BytesIO, known: Any) -> None:
        super().__init__(file)
        self.known = known

    def persistent_id(self, value: Any) -> str | None:
        return "known" if value is self.known and value is not None else None

    def reducer_override(self, value: Any) -> Any:
        reduced = super().reducer_override(value)
        if isinstance(value, types.CodeType) and reduced is NotImplemented:
            make, arguments = self.dispatch_table[types.CodeType](value)[:2]
            return _code_of_file, (make, arguments, value.co_filename)
        return reduced


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, known: Any) -> None:
        super().__init__(file)
        self.known = known

    def persistent_load(self, pid: Any) -> Any:
        return self.known


def _code_of_file(make: Any, arguments: tuple[Any, ...], file: str) -> types.CodeType:
    return make(*arguments).replace(co_filename=file)


@contextlib.contextmanager
def _by_value() -> Iterator[None]:
    """While this lasts, what is defined in modules that a new interpreter cannot import is written whole."""
    before = cloudpickle.list_registry_pickle_by_value()
    # By name, because some modules stand under two.
    found = {module.__name__: module for module in list(sys.modules.values()) if _is_only_here(module)}
    marked = [module for name, module in found.items() if name not in before]  # the user may have asked for it, too
    for module in marked:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in marked:
            cloudpickle.unregister_pickle_by_value(module)


_LIBRARIES = tuple(
    str(Path(place).resolve())
    for place in {*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, Path(sightline.__file__).parent}
)


def _is_only_here(module: types.ModuleType) -> bool:
    """Whether a user's module was made in a way that an import by its name would not repeat."""
    if not isinstance(module, types.ModuleType):
        return False
    name, file = module.__name__, getattr(module, "__file__", None)
    if name == "__main__" or sys.modules.get(name) is not module:  # cloudpickle writes these whole by itself
        return False
    if name.partition(".")[0] in sys.stdlib_module_names:
        return False
    if file is None:
        return getattr(module, "__spec__", None) is None and not hasattr(module, "__path__")
    if str(file).startswith(_LIBRARIES) or str(Path(file).resolve()).startswith(_LIBRARIES):
        return False
    return not _found(name, file)


def _found(name: str, file: str) -> bool:
    """Whether an import of this name in a new interpreter finds this file."""
    folder = Path(file).resolve().parent
    if Path(file).name == "__init__.py":
        folder = folder.parent
    parts = name.split(".")
    for part in reversed(parts[:-1]):
        if folder.name != part:
            return False
        folder = folder.parent
    return any(folder == Path(place or ".").resolve() for place in sys.path) and Path(file).stem in (
        parts[-1],
        "__init__",
    )
