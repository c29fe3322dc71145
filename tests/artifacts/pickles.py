"""Pickles and `.pt` files written instruction by instruction, as no honest program would write them."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

PROTO, STOP, MARK = b"\x80\x02", b".", b"("


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def value(plain: object) -> bytes:
    """Containers, numbers and text."""
    if isinstance(plain, dict):
        return b"}" + MARK + b"".join(value(key) + value(item) for key, item in plain.items()) + b"u"
    if isinstance(plain, list):
        return b"]" + MARK + b"".join(map(value, plain)) + b"e"
    if isinstance(plain, bool):
        return b"\x88" if plain else b"\x89"
    if isinstance(plain, float):
        return b"G" + struct.pack(">d", plain)
    return number(plain) if isinstance(plain, int) else text(plain)


def name(module: str, attribute: str) -> bytes:
    return b"c" + f"{module}\n{attribute}\n".encode()


def row(*values: bytes) -> bytes:
    """A tuple."""
    return MARK + b"".join(values) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + row(*arguments) + b"R"


def table(**entries: bytes) -> bytes:
    """A dict with text keys."""
    return b"}" + MARK + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def put(index: int) -> bytes:
    return b"r" + struct.pack("<I", index)


def get(index: int) -> bytes:
    return b"j" + struct.pack("<I", index)


def tensor(
    key: str = "0", length: int = 4, *, kind: str = "FloatStorage", offset: int = 0, size=(4,), stride=(1,)
) -> bytes:
    storage = row(text("storage"), name("torch", kind), text(key), text("cpu"), number(length)) + b"Q"
    return call(
        name("torch._utils", "_rebuild_tensor_v2"),
        storage,
        number(offset),
        row(*map(number, size)),
        row(*map(number, stride)),
        b"\x89",
        b"}",
    )


def module(kind: bytes, parameters: bytes = b"}", modules: bytes = b"}", **attributes: bytes) -> bytes:
    """A network layer as torch pickles it."""
    state = table(_parameters=parameters, _buffers=b"}", _modules=modules, **attributes)
    return kind + b")\x81" + state + b"b"


NETWORK = module(name("torch.nn.modules.linear", "Linear"), table(weight=tensor()))


def archive(
    path: Path,
    pickle: bytes,
    storages: dict[str, bytes] | None = None,
    *,
    extra: dict[str | zipfile.ZipInfo, bytes] | None = None,
    compress: bool = False,
) -> Path:
    """A `.pt` file around a pickle (without PROTO and STOP); storage "0" holds four float32 unless told otherwise."""
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", PROTO + pickle + STOP)
        for key, data in (storages or {"0": struct.pack("<4f", 1, 2, 3, 4)}).items():
            file.writestr(f"archive/data/{key}", data, compress_type=kind, compresslevel=1)
        file.writestr("archive/version", b"3\n")
        for member, data in (extra or {}).items():
            file.writestr(member, data)
    return path


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for member, data in members.items():
            file.writestr(member, data)
    return buffer.getvalue()
