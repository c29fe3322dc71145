"""What stands in the place of objects when a pickle is read as data, and the few calls that make plain values of it.

The functions here are all that a foreign file can make run; each takes data and returns data.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sightline.artifacts.archive import Unreadable

# torch's class of a storage → type and bytes of its numbers
STORAGE_TYPES = {
    "torch.DoubleStorage": ("float64", 8),
    "torch.FloatStorage": ("float32", 4),
    "torch.HalfStorage": ("float16", 2),
    "torch.BFloat16Storage": ("bfloat16", 2),
    "torch.LongStorage": ("int64", 8),
    "torch.IntStorage": ("int32", 4),
    "torch.ShortStorage": ("int16", 2),
    "torch.CharStorage": ("int8", 1),
    "torch.ByteStorage": ("uint8", 1),
    "torch.BoolStorage": ("bool", 1),
}


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function, which is not looked up."""

    name: str  # "torch.nn.modules.conv.Conv2d"


@dataclass(slots=True, eq=False)
class Record:
    """An object that was not made: the name of its class, and what it would have been made from."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)  # of subclasses of list and dict

    def attribute(self, key: str, default: Any = None) -> Any:
        """An attribute as it was saved."""
        return self.state.get(key, default) if isinstance(self.state, dict) else default


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers that lie elsewhere in the file."""

    key: str
    dtype: str
    length: int  # in elements


@dataclass(frozen=True, slots=True, eq=False)
class TensorRecord:
    """A view into a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def checked_key(value: Any) -> Any:
    """A key of a dict or set. Only flat ones: hashing a tuple of a hundred thousand nested tuples ends the process."""
    for part in value if isinstance(value, tuple) else (value,):
        if not (part is None or isinstance(part, str | float | bytes | int)):
            raise Unreadable(f"its pickle has a key with an object of type {type(part).__name__} in it")
        # Integers beyond 2**61 can be chosen to have equal hashes, and a dict of those takes forever.
        if isinstance(part, int) and abs(part) >= 2**61 - 1:
            raise Unreadable("its pickle has a number as a key that no table needs")
    return value


def _tensor(storage: Storage, offset: int, size: Any, stride: Any, *_: Any) -> TensorRecord:
    """`torch._utils._rebuild_tensor_v2`, with the check that the view lies inside of its storage."""
    if not isinstance(storage, Storage):
        raise Unreadable("a tensor has no storage")
    axes = (size, stride)
    if not all(isinstance(numbers, tuple | list) and len(numbers) <= 16 for numbers in axes):
        raise Unreadable("a tensor has an impossible shape")
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride) or not all(type(n) is int and 0 <= n < 2**62 for n in (offset, *size, *stride)):
        raise Unreadable(f"a tensor has the impossible shape {_short(size)} with strides {_short(stride)}")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if 0 not in size and last >= storage.length:
        raise Unreadable(
            f"a tensor of shape {_short(size)} claims more numbers than the {storage.length} of its storage"
        )
    return TensorRecord(storage, offset, size, stride)


def _short(numbers: tuple[Any, ...]) -> str:
    return str(tuple(n if type(n) is int and abs(n) < 2**64 else type(n).__name__ for n in numbers))


def _parameter(tensor: Any, *_: Any) -> TensorRecord:
    if not isinstance(tensor, TensorRecord):
        raise Unreadable("a parameter is no tensor")
    return tensor


def _tensor_of_type(function: Any, _kind: Any, arguments: Any, *_: Any) -> Any:
    """`torch._tensor._rebuild_from_type_v2`: a tensor with attributes, which do not matter."""
    if not isinstance(function, Global) or function.name not in ("torch._utils._rebuild_tensor_v2",):
        raise Unreadable(f"a tensor is made by {getattr(function, 'name', 'something')}, which is not known here")
    return _tensor(*arguments)


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    return {checked_key(key): value for key, value in pairs}


def _default_dict(_factory: Any = None, pairs: Any = ()) -> dict[Any, Any]:
    return _ordered_dict(pairs)


def _set(values: Any = ()) -> set[Any]:
    return {checked_key(value) for value in values}


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How protocol 2 writes bytes."""
    if encoding.replace("-", "").lower() not in ("latin1", "utf8", "ascii"):
        raise Unreadable(f"its pickle encodes text as {encoding!r:.40}")
    return text.encode(encoding)


def _numpy_scalar(dtype: Any, data: Any = b"") -> Any:
    """`numpy.core.multiarray.scalar`: a number of a metric, as a plain one."""
    code = dtype.arguments[0] if isinstance(dtype, Record) and dtype.arguments else None
    if not (isinstance(code, str) and re.fullmatch(r"[<=|]?[biuf][1248]", code) and isinstance(data, bytes)):
        return None
    return np.frombuffer(data, dtype=np.dtype(code))[0].item()


def _path(*parts: Any) -> str:
    return "/".join(str(part) for part in parts if isinstance(part, str))


def _nothing(*_: Any) -> None:
    """A bound method in an attribute of a folded model comes through `getattr`; nobody here would call it."""


def _reconstructed(cls: Any, *_: Any) -> Record:
    return Record(cls.name if isinstance(cls, Global) else "?")


CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _tensor_of_type,
    "torch.Size": lambda values=(): tuple(values),
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    "_codecs.encode": _encode,
    "copy_reg._reconstructor": _reconstructed,
    "copyreg._reconstructor": _reconstructed,
    **{
        f"{module}.{kind}": _path
        for module in ("pathlib", "pathlib._local")
        for kind in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
    },
    **{
        f"{module}.{name}": function
        for module in ("builtins", "__builtin__")
        for name, function in {
            "set": _set,
            "frozenset": _set,
            "list": lambda values=(): list(values),
            "tuple": lambda values=(): tuple(values),
            "dict": _ordered_dict,
            "bytearray": lambda *_: None,
            "bytes": lambda *_: None,
            "complex": lambda *_: None,
            "slice": lambda *_: None,
            "getattr": _nothing,
            "object": lambda *_: Record("object"),
        }.items()
    },
}
