"""Files made to harm, and the program that opens them under limits (run as a script by test_hostile_files.py)."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import struct
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import pickles as p

TEN_MILLION_ZEROS = bytes(10_000_000)


def with_network(payload: bytes) -> bytes:
    """A good network with something bad beside it, so that nothing else gives the file away."""
    return p.table(model=p.NETWORK, extra=payload)


DEEP = 150_000
FACTOR = 60  # levels of doubling: more than any memory


def doubled() -> bytes:
    """Layers of which each holds the one before it twice."""
    found = p.module(p.name("torch.nn", "Sequential")) + p.put(0) + b"0"
    for level in range(FACTOR):
        twice = p.table(a=p.get(level), b=p.get(level))
        found += p.module(p.name("torch.nn", "Sequential"), modules=twice) + p.put(level + 1) + b"0"
    return found


def tripled() -> bytes:
    """Lists of which each holds the one before it three times."""
    levels = (b"]" + p.MARK + p.get(level) * 3 + b"e" + p.put(level + 1) + b"0" for level in range(FACTOR))
    return b"]" + p.put(0) + b"0" + b"".join(levels)


def overlapping() -> bytes:
    """Three thousand tensors of 10 MB in a storage of 10 MB."""
    return p.table(**{f"w{index}": p.tensor("0", 2_500_000, size=(2_500_000,)) for index in range(3000)})


def endless_copies() -> bytes:
    """A long list, copied over and over."""
    long_list = b"]" + p.put(0) + p.MARK + b"K\x01" * 100_000 + b"e0"
    return long_list + (p.call(p.name("__builtin__", "list"), p.get(0)) + b"0") * 20_000


def equal_hashes() -> bytes:
    """A dict whose keys all have the hash 0."""
    return b"}" + p.MARK + b"".join(p.number((2**61 - 1) * index) + b"N" for index in range(1, 900)) + b"u"


MANY = 40_000


def many_names(index: int) -> bytes:
    """A dict in which everything is what the memo has at `index`."""
    return b"}" + p.MARK + b"".join(p.text(f"n{number}") + p.get(index) for number in range(MANY)) + b"u"


def one_list_under_many_names() -> bytes:
    long_list = b"]" + p.put(0) + p.MARK + b"K\x01" * 100_000 + b"e0"
    names = b"".join(p.text(f"k{number}") + p.get(0) for number in range(MANY))
    return long_list + b"}" + p.MARK + p.text("state_dict") + p.table(w=p.tensor()) + names + b"u"


def layers_times(child: bytes) -> bytes:
    """A network that has one layer under many names."""
    child += p.put(3) + b"0"
    return child + p.table(model=p.module(p.name("torch.nn", "Sequential"), modules=many_names(3)))


def layer_with(parameters: bytes = b"}", **attributes: bytes) -> bytes:
    return p.module(p.name("torch.nn", "Linear"), parameters=parameters, **attributes)


def names_times_tensors() -> bytes:
    """A tensor under many names, in a layer under many names."""
    names = p.tensor() + p.put(0) + b"0" + many_names(0) + p.put(1) + b"0"
    return names + layers_times(layer_with(p.get(1)))


def names_times_nothing() -> bytes:
    """The same with nothing where the tensor was."""
    return b"N" + p.put(0) + b"0" + many_names(0) + p.put(1) + b"0" + layers_times(layer_with(p.get(1)))


def hidden_in_a_list() -> bytes:
    """Many buffers, each to be looked for in a long list."""
    buffers = p.tensor() + p.put(0) + b"0" + many_names(0) + p.put(1) + b"0"
    hidden = p.value(["x"] * 100_000)
    state = p.table(_parameters=b"}", _buffers=p.get(1), _modules=b"}", _non_persistent_buffers_set=hidden)
    return buffers + p.table(model=p.name("torch.nn", "Linear") + b")\x81" + state + b"b")


def long_name() -> bytes:
    """A layer whose name would be repeated in that of each of its tensors."""
    child = p.tensor() + p.put(0) + b"0" + many_names(0) + p.put(1) + b"0" + layer_with(p.get(1)) + p.put(3) + b"0"
    inside = b"}" + p.text("n" * 10_000_000) + p.get(3) + b"s"
    return child + p.table(model=p.module(p.name("torch.nn", "Sequential"), modules=inside))


def described(rows: list, key: str = "model.0.conv.weight", size: tuple[int, ...] = (4,), **yaml: object) -> bytes:
    """Four numbers, and the description of a network that they should fill."""
    head = [[[-1], 1, "Detect", ["nc"]]]
    yaml = {"nc": 3, "scales": {"n": [1.0, 1.0, 1e9]}, "scale": "n", "backbone": rows, "head": head, **yaml}
    tensor = p.tensor(size=size, stride=(1,) * len(size))
    return p.table(state_dict=p.table(**{key: tensor}), yaml=p.value(yaml), nc=p.value(yaml["nc"]))


FIRST = [-1, 1, "Conv", [64, 3, 2]]
# What these say of their network is wrong, so reading them is no error, but building it is.
NETWORKS: dict[str, Callable[[], bytes]] = {
    "wide layers": lambda: described([[-1, 1, "Conv", [9000, 3, 2]], [-1, 1, "Conv", [9000, 3, 2]]]),
    "wide layers of torch": lambda: described([FIRST, [-1, 1, "nn.Linear", [10**9, 10**9]]]),
    "wide norms": lambda: described([FIRST, [-1, 1, "nn.BatchNorm2d", [10**9, 1e-5, 0.1, False]]]),
    "infinite width": lambda: described([FIRST], scales={"n": [1.0, float("inf"), 1e9]}),
    "endless repeats": lambda: described([FIRST, [-1, 500_000, "Conv", [64, 3, 1]]]),
    "endless repeats inside": lambda: described([FIRST, [-1, 10**9, "C3k2", [8, True]]]),
    "endless copies of layers": lambda: described([FIRST, [-1, 1, "nn.TransformerEncoder", [1, 10**9]]]),
    "endless rows": lambda: described([FIRST] + [[-1, 1, "nn.Identity", []]] * 30_000),
    "endless classes": lambda: described([FIRST], nc=10**8),
    "endless bins": lambda: described([FIRST], reg_max=10**9),
    "large maps": lambda: described([FIRST, [-1, 1, "nn.Upsample", ["None", 400, "nearest"]]]),
    "ever larger maps": lambda: described([FIRST] + [[-1, 1, "nn.Upsample", ["None", 2, "nearest"]]] * 60),
    "doubled maps": lambda: described([FIRST] + [[[-1, -1], 1, "Concat", [1]]] * 30),
    "lazy layers": lambda: described([FIRST, [-1, 1, "nn.LazyConv2d", [8, 1]]]),
    "list for a size": lambda: described([FIRST], scale=[1]),
    "list for a block": lambda: described([[-1, 1, ["Conv"], [64]]]),
    "list for a name": lambda: described([FIRST, {"block": "Conv", "channels": 64, "name": []}]),
    "number for an argument": lambda: described([[-1, 1, "Conv", [64, {1: 2}]]]),
    "long activation": lambda: described([FIRST], activation="-" * 5_000_000 + "1"),
    "class bias of no axis": lambda: described([FIRST], "model.1.cv3.0.2.bias", ()),
    "class weight of one axis": lambda: described([FIRST], "model.1.cv3.0.2.weight"),
    "number of another script": lambda: described([FIRST], "model.².conv.weight"),
}


def files(folder: Path, canary: Path) -> dict[str, Callable[[], Path]]:
    """Name → function that writes the file. A file that gets code to run makes `canary`."""
    touch = p.text(f"touch {canary}")
    python = p.text(f"open({str(canary)!r}, 'w')")
    path = folder / "hostile.pt"

    def plain(data: bytes) -> Path:
        path.write_bytes(data)
        return path

    def truncated() -> Path:
        whole = p.archive(path, p.table(model=p.NETWORK), {"0": TEN_MILLION_ZEROS[:16], "1": TEN_MILLION_ZEROS})
        return plain(whole.read_bytes()[:5_000_000])

    def symlink_member() -> Path:
        info = zipfile.ZipInfo("archive/data/1")
        info.external_attr = 0o120777 << 16
        return p.archive(path, p.table(model=p.NETWORK), extra={info: b"/etc/passwd"})

    def symlink_circle() -> Path:
        path.symlink_to(path)
        return path

    def pipe() -> Path:
        os.mkfifo(path)
        return path

    def tar() -> Path:
        with tarfile.open(path, "w") as file:
            info = tarfile.TarInfo("pickle")
            info.size = 4
            file.addfile(info, io.BytesIO(b"evil"))
        return path

    def flipped() -> Path:
        data = bytearray(p.archive(path, p.table(model=p.NETWORK)).read_bytes())
        at = data.index(struct.pack("<4f", 1, 2, 3, 4))
        data[at] ^= 1
        return plain(bytes(data))

    def many_members() -> Path:
        data = bytearray(p.archive(path, p.table(model=p.NETWORK)).read_bytes())
        struct.pack_into("<H", data, data.rindex(b"PK\x05\x06") + 10, 60_000)
        return plain(bytes(data))

    class Execute:
        def __reduce__(self):
            return exec, (f"open({str(canary)!r}, 'w')",)

    def safetensors_pipe() -> Path:
        os.mkfifo(path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")

    def safetensors(names: str) -> Path:
        header = json.dumps(
            {"__metadata__": {"names": names}, "w": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}
        )
        path.with_suffix(".safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
        return path.with_suffix(".safetensors")

    def network(made: Callable[[], bytes]) -> Callable[[], Path]:
        return lambda: p.archive(path, made())

    nested = pickle.dumps(Execute(), protocol=2)
    return {
        # the ten of the issue
        "reduce exec": lambda: p.archive(path, with_network(p.call(p.name("__builtin__", "exec"), python))),
        "os.system": lambda: p.archive(path, with_network(p.call(p.name("posix", "system"), touch))),
        "nested opcodes": lambda: p.archive(
            path,
            with_network(
                p.call(p.name("torch.storage", "_load_from_bytes"), b"B" + struct.pack("<I", len(nested)) + nested)
            ),
        ),
        "truncated zip": truncated,
        "wrong magic": lambda: plain(b"GIF89a" + TEN_MILLION_ZEROS),
        "zip bomb": lambda: p.archive(path, p.table(model=p.NETWORK), {"0": bytes(600_000_000)}, compress=True),
        "huge tensor header": lambda: p.archive(
            path, p.table(weight=p.tensor(length=2**40, size=(2**20, 2**20), stride=(2**20, 1)))
        ),
        "path traversal": lambda: p.archive(path, p.table(model=p.NETWORK), extra={"archive/../../canary": b"x"}),
        "symlink": symlink_member,
        "self-referencing memo": lambda: p.archive(
            path,
            p.table(
                model=p.name("torch.nn", "Sequential")
                + b")\x81"
                + p.put(0)
                + p.table(_parameters=b"}", _buffers=b"}", _modules=p.table(again=p.get(0)))
                + b"b"
            ),
        ),
        # relatives
        "pure code": lambda: p.archive(path, p.call(p.name("posix", "system"), touch)),
        "code in a raw pickle": lambda: plain(p.PROTO + p.call(p.name("posix", "system"), touch) + p.STOP),
        "stack global": lambda: p.archive(
            path, with_network(p.text("os") + p.text("system") + b"\x93" + p.row(touch) + b"R")
        ),
        "new object": lambda: p.archive(path, with_network(p.name("subprocess", "Popen") + p.row(touch) + b"\x81")),
        "old instance": lambda: p.archive(path, with_network(p.MARK + touch + b"iposix\nsystem\n")),
        "unknown call": lambda: p.archive(path, with_network(p.call(p.name("somewhere", "run"), touch))),
        "call of a call": lambda: p.archive(
            path,
            with_network(p.call(p.call(p.name("__builtin__", "getattr"), p.name("torch", "os"), p.text("x")), touch)),
        ),
        "build with code": lambda: p.archive(
            path, with_network(p.name("torch.nn", "Module") + b")\x81" + p.call(p.name("os", "system"), touch) + b"b")
        ),
        "symlink to itself": symlink_circle,
        "pipe": pipe,
        "folder": lambda: path.mkdir() or path,
        "empty": lambda: plain(b""),
        "web page": lambda: plain(b"<!DOCTYPE html><html>Not found</html>"),
        "old tar format": tar,
        "compressed numbers": lambda: p.archive(path, p.table(model=p.NETWORK), compress=True),
        "damaged numbers": flipped,
        "no pickle": lambda: plain(p.zipped({"archive/readme": b"hello"})),
        "many members": many_members,
        "stretched tensor": lambda: p.archive(path, p.table(w=p.tensor(size=(2**20, 2**20), stride=(0, 0)))),
        "one list under many names": lambda: p.archive(path, one_list_under_many_names()),
        "names times tensors": lambda: p.archive(path, names_times_tensors()),
        "names times nothing": lambda: p.archive(path, names_times_nothing()),
        "hidden in a list": lambda: p.archive(path, hidden_in_a_list()),
        "long name": lambda: p.archive(path, long_name()),
        "endless wrappers": lambda: p.archive(path, p.table(**{"module." * 1_000_000: p.tensor(), "format": b"N"})),
        "infinite index": lambda: p.archive(
            path, p.table(state_dict=p.table(w=p.tensor()), names=p.value({float("inf"): "a"}))
        ),
        "safetensors pipe": safetensors_pipe,
        "safetensors with deep names": lambda: safetensors("[" * 1_000_000),
        "tensor beyond its storage": lambda: p.archive(path, p.table(w=p.tensor(offset=3, size=(2,)))),
        "negative stride": lambda: p.archive(path, p.table(w=p.tensor(size=(2,), stride=(-1,)))),
        "overlapping tensors": lambda: p.archive(path, overlapping(), {"0": TEN_MILLION_ZEROS}),
        "missing storage": lambda: p.archive(path, p.table(w=p.tensor("7"))),
        "layers that double": lambda: p.archive(path, doubled() + p.table(model=p.get(60))),
        "settings that triple": lambda: p.archive(
            path, tripled() + p.table(state_dict=p.table(w=p.tensor()), args=p.table(x=p.get(60)))
        ),
        "deep lists": lambda: p.archive(path, b"]" * DEEP + b"a" * (DEEP - 1)),
        "deep tuples as a key": lambda: p.archive(path, b"}" + b")" + b"\x85" * DEEP + b"Ns"),
        "list in itself": lambda: p.archive(
            path, p.table(state_dict=p.table(w=p.tensor()), args=b"]" + p.put(0) + p.get(0) + b"a")
        ),
        "endless steps": lambda: p.archive(path, b"]" * 15_000_000),
        "endless copies": lambda: p.archive(path, endless_copies() + p.table(w=p.tensor())),
        "equal hashes": lambda: p.archive(path, p.table(w=p.tensor(), args=equal_hashes())),
        "long text": lambda: p.archive(path, p.table(args=p.text("é" * 20_000_000), w=p.tensor())),
        "stack too short": lambda: p.archive(path, b"RRRR"),
        "marks too few": lambda: p.archive(path, b"ttttu"),
        "memo without an entry": lambda: p.archive(path, p.get(5)),
        "no end": lambda: plain(p.zipped({"archive/data.pkl": p.PROTO + b"]]]]"})),
        "no weights": lambda: p.archive(path, p.table(epoch=p.number(3))),
        "nothing": lambda: p.archive(path, b"N"),
        "ours without weights": lambda: p.archive(path, p.table(format=p.text("sightline"))),
        "ours with code": lambda: p.archive(
            path,
            p.table(format=p.text("sightline"), model=p.table(w=p.tensor()), x=p.call(p.name("os", "system"), touch)),
        ),
        **{name: network(made) for name, made in NETWORKS.items()},
    }


def open_one(path: Path) -> dict[str, object]:
    """What reading the file in four ways led to."""
    from sightline import YOLO
    from sightline.artifacts.checkpoint import load_checkpoint
    from sightline.artifacts.foreign import read_foreign
    from sightline.artifacts.weights_file import read_weights
    from sightline.errors import SightlineError

    outcome: dict[str, object] = {}
    for function in (read_weights, read_foreign, load_checkpoint, YOLO):
        started = time.process_time()  # other tests run beside this one
        try:
            result = f"opened: {function(path)!r:.200}"
        except SightlineError as error:
            result = f"{type(error).__name__}: {error}"
        outcome[function.__name__] = {"result": result, "seconds": time.process_time() - started}
    return outcome


def main() -> None:
    """Make and open every file, each in a child of its own under limits; one JSON line each."""
    import sightline.facade  # noqa: F401 (before the children, so that they do not each import torch)

    root = Path(sys.argv[1])
    for name in files(root, root):
        folder = root / name.replace(" ", "-")
        folder.mkdir()
        canary = folder / "canary"
        path = files(folder, canary)[name]()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
            outcome = open_one(path)
            os.write(writer, json.dumps(outcome).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            answer = pipe.read()
        _, status, usage = os.wait4(child, 0)
        made = sorted(str(found.relative_to(root)) for found in root.rglob("canary"))
        report = {"name": name, "status": status, "peak_mb": usage.ru_maxrss / 1024, "made": made}
        print(json.dumps({**report, "outcome": json.loads(answer) if answer else None}), flush=True)
        if path.is_file() and not path.is_symlink():
            path.unlink()


if __name__ == "__main__":
    main()
