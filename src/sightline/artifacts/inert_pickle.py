"""Reads a pickle as data: nothing in it is imported or called.

A pickle is a program for a small stack machine. This is such a machine with the dangerous half left out: a class or
function is only its name, making an object only writes down what would have been made. The few calls that build plain
values (tensors, ordered dicts, NumPy scalars, …) are carried out by the functions of `inert_values.py`; a call of
anything unknown is an error that names it.
"""

from __future__ import annotations

import pickletools
import re
import struct
from collections.abc import Callable
from typing import Any

from sightline.artifacts.archive import UNSAFE, Unreadable
from sightline.artifacts.inert_values import CALLS, STORAGE_TYPES, Global, Record, Storage, TensorRecord, checked_key

# yolo26n.pt takes 73,000 operations, the largest models a few times that; the limit bounds time and memory.
MAX_OPERATIONS = 600_000

# Values that calls copy, counted in elements: without a limit, `set(list)` over and over multiplies a small file.
MAX_COPIED = 1_000_000

# No model needs these. Nothing would be run, but a file that asks for them is not to be trusted with anything else.
_UNSAFE = """
    _posixsubprocess asyncio bdb builtins cProfile cloudpickle code codeop commands ctypes dill imp importlib joblib
    marshal mmap multiprocessing nt operator os pdb pickle pip pkgutil posix profile pty pydoc requests runpy shutil
    signal site socket ssl subprocess sys tempfile timeit torch.hub torch.package trace urllib webbrowser __builtin__
"""
UNSAFE_MODULES = frozenset(_UNSAFE.split())
_HARMLESS = "bool bytearray bytes complex dict float frozenset getattr int list object set slice str tuple"
HARMLESS_BUILTINS = frozenset(_HARMLESS.split())

# Objects made by calling these classes, or classes of these packages, are kept as records.
INERT_PACKAGES = (
    "argparse.",
    "datetime.",
    "numpy.",
    "omegaconf.",
    "torch.nn.",
    "torch.optim.",
    "torchvision.",
    "ultralytics.",
)
INERT_NAMES = frozenset(
    {"torch.device", "torch.Generator", "collections.Counter", "functools.partial", "types.SimpleNamespace"}
)


def read_pickle(data: bytes, check_storage: Callable[[str, int], None]) -> Any:
    """The object that a pickle describes, of plain Python values, `Record`, `Global` and `TensorRecord`.

    Args:
        check_storage: called with key and size in bytes of every storage that the pickle refers to; raises if the file
            does not hold it.

    Raises:
        Unreadable: damaged, too long, or it needs something that is not known here; the message names it.
    """
    machine = _Machine(check_storage)
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_OPERATIONS:
                raise Unreadable(
                    f"its description takes more than {MAX_OPERATIONS} steps, and no model needs that many"
                )
            if operation.name == "STOP":
                break
            step = _STEPS.get(operation.name)
            if step is None:
                raise Unreadable(f"its pickle has the instruction {operation.name}, which torch does not write")
            step(machine, argument)
        return machine.stack.pop()
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error) as error:
        raise Unreadable(f"its pickle is damaged ({type(error).__name__}: {error!s:.100})") from error


class _Machine:
    """Stack, marks and memo."""

    def __init__(self, check_storage: Callable[[str, int], None]) -> None:
        self.check_storage = check_storage
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def copies(self, *values: Any) -> None:
        """Account for values that are about to be copied."""
        for value in values:
            if isinstance(value, str | bytes):
                self.copied += len(value) // 32  # bytes, where elements of containers are pointers with objects
            elif isinstance(value, list | tuple | dict | set):
                self.copied += len(value)
        if self.copied > MAX_COPIED:
            raise Unreadable("its description grows without end when it is unpacked")

    def mark(self, _: Any = None) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        found, self.stack = self.stack, self.marks.pop()
        return found


# ---------------------------------------------------------------------------------------------- the instructions


def _pairs(flat: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _add_pairs(target: Any, pairs: list[tuple[Any, Any]]) -> None:
    if isinstance(target, dict):
        target.update((checked_key(key), value) for key, value in pairs)
    elif isinstance(target, Record):
        target.items.extend(pairs)
    else:
        raise Unreadable(f"its pickle sets an item of a {type(target).__name__}")


def _add_values(target: Any, values: list[Any]) -> None:
    if isinstance(target, set):
        target.update(checked_key(value) for value in values)
    elif isinstance(target, list):
        target.extend(values)
    elif isinstance(target, Record):
        target.items.extend(values)
    else:
        raise Unreadable(f"its pickle appends to a {type(target).__name__}")


def _collect(machine: _Machine, count: int) -> None:
    values = machine.stack[-count:]
    if len(values) != count:
        raise IndexError("stack too short")
    del machine.stack[-count:]
    machine.push(tuple(values))


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    _add_pairs(machine.stack[-1], [(key, value)])


def _set_items(machine: _Machine, _: Any) -> None:
    pairs = _pairs(machine.since_mark())
    _add_pairs(machine.stack[-1], pairs)


def _append(machine: _Machine, _: Any) -> None:
    value = machine.pop()
    _add_values(machine.stack[-1], [value])


def _append_all(machine: _Machine, _: Any) -> None:
    values = machine.since_mark()
    _add_values(machine.stack[-1], values)


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    if not (isinstance(name, str) and isinstance(module, str)):
        raise Unreadable("its pickle makes the name of a class from something else than text")
    machine.push(_global(f"{module} {name}"))


def _global(text: str) -> Global:
    """A name, if it is not one that only an attack would ask for."""
    module, _, name = text.partition(" ")
    full = f"{module}.{name}"
    if not re.fullmatch(r"[\w.<>]{1,200}", full):
        raise Unreadable(f"it asks for something called {full[:100]!r}, which is no name of a class")
    builtin = module in ("builtins", "__builtin__") and name in HARMLESS_BUILTINS
    parts = module.split(".")
    if not builtin and any(".".join(parts[: i + 1]) in UNSAFE_MODULES for i in range(len(parts))):
        raise Unreadable(f"it asks for {full}, which no model needs", advice=UNSAFE)
    return Global(full)


def _persistent(machine: _Machine, _: Any) -> None:
    """torch's pickles refer to their storages with ("storage", class, key, device, number of elements)."""
    kind, storage_class, key, _device, length = machine.pop()
    if kind != "storage" or not isinstance(storage_class, Global):
        raise Unreadable(f"its pickle refers to a {kind!r} outside of itself")
    known = STORAGE_TYPES.get(storage_class.name)
    if known is None:
        raise Unreadable(f"its numbers are of the kind {storage_class.name}, which is not known here")
    if not (isinstance(key, str) and isinstance(length, int) and length >= 0):
        raise Unreadable("its pickle names a storage that cannot be")
    dtype, item_size = known
    machine.check_storage(key, length * item_size)
    machine.push(Storage(key, dtype, length))


def _new_object(machine: _Machine, _: Any) -> None:
    arguments, cls = machine.pop(), machine.pop()
    if not isinstance(cls, Global) or not isinstance(arguments, tuple):
        raise Unreadable(f"its pickle makes an object of a {type(cls).__name__}, which is no class")
    machine.push(Record(cls.name, arguments))


def _new_object_with_keywords(machine: _Machine, _: Any) -> None:
    machine.pop()
    _new_object(machine, None)


def _build(machine: _Machine, _: Any) -> None:
    state = machine.pop()
    target = machine.stack[-1]
    if isinstance(target, Record):
        # Objects with slots come as (dict, slots).
        if (
            isinstance(state, tuple)
            and len(state) == 2
            and all(part is None or isinstance(part, dict) for part in state)
        ):
            machine.copies(*state)
            state = {**(state[0] or {}), **(state[1] or {})}
        target.state = state
    elif not isinstance(target, dict | TensorRecord):  # an OrderedDict's or a tensor's attributes do not matter
        raise Unreadable(f"its pickle gives attributes to a {type(target).__name__}")


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, function = machine.pop(), machine.pop()
    if not isinstance(function, Global) or not isinstance(arguments, tuple):
        raise Unreadable(f"its pickle calls a {type(function).__name__}")
    known = CALLS.get(function.name)
    if known is not None:
        machine.copies(*arguments)
        machine.push(known(*arguments))
    elif function.name in INERT_NAMES or function.name.startswith(INERT_PACKAGES):
        machine.push(Record(function.name, arguments))
    else:
        raise Unreadable(
            f"it wants to call {function.name}, which is not known here",
            advice="If you trust it, load it with the program that made it and save `model.state_dict()` instead.",
        )


_VALUES = """
    BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING SHORT_BINSTRING BINBYTES
    SHORT_BINBYTES BINBYTES8
"""
_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(["PROTO", "FRAME"], lambda machine, _: None),
    **dict.fromkeys(_VALUES.split(), _Machine.push),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "MARK": _Machine.mark,
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.since_mark(),
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: _collect(machine, 1),
    "TUPLE2": lambda machine, _: _collect(machine, 2),
    "TUPLE3": lambda machine, _: _collect(machine, 3),
    "DICT": lambda machine, _: machine.push({checked_key(key): value for key, value in _pairs(machine.since_mark())}),
    "FROZENSET": lambda machine, _: machine.push({checked_key(value) for value in machine.since_mark()}),
    "APPEND": _append,
    "APPENDS": _append_all,
    "ADDITEMS": _append_all,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "BINPUT": lambda machine, index: machine.memo.__setitem__(index, machine.stack[-1]),
    "LONG_BINPUT": lambda machine, index: machine.memo.__setitem__(index, machine.stack[-1]),
    "MEMOIZE": lambda machine, _: machine.memo.__setitem__(len(machine.memo), machine.stack[-1]),
    "BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "GLOBAL": lambda machine, text: machine.push(_global(text)),
    "STACK_GLOBAL": _stack_global,
    "BINPERSID": _persistent,
    "NEWOBJ": _new_object,
    "NEWOBJ_EX": _new_object_with_keywords,
    "REDUCE": _reduce,
    "BUILD": _build,
}
