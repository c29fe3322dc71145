"""Reads weights files that other programs wrote, without running anything in them and without those programs.

`ForeignFile` gives the content of a `.pt` file as plain values and records; `find_model` takes a network that was
pickled as a whole (as Ultralytics does) apart into a state dict and the attributes that matter.
Facts: models.md, section 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from sightline.artifacts.archive import TorchArchive, Unreadable
from sightline.artifacts.inert_pickle import read_pickle
from sightline.artifacts.inert_values import Global, Record, TensorRecord
from sightline.errors import CheckpointError

MAX_DEPTH = 64  # modules in modules; real networks have 10
MAX_ENTRIES = 100_000  # of tables of modules, so that a module that stands in many places cannot multiply
MAX_NAME = 100  # letters of an attribute; the names of tensors repeat those of all modules around them
MAX_TENSORS = 5_000  # names of tensors; yolo26x has 1,100
MAX_VALUES = 200_000  # of settings, names, tables of one file

TASK_OF_CLASS = {
    "DetectionModel": "detect",
    "YOLOv10DetectionModel": "detect",
    "RTDETRDetectionModel": "rtdetr",
    "SegmentationModel": "segment",
    "PoseModel": "pose",
    "OBBModel": "obb",
    "ClassificationModel": "classify",
}
TASK_OF_HEAD = {
    "Detect": "detect",
    "v10Detect": "detect",
    "RTDETRDecoder": "rtdetr",
    "Segment": "segment",
    "Segment26": "segment",
    "Pose": "pose",
    "Pose26": "pose",
    "OBB": "obb",
    "OBB26": "obb",
    "Classify": "classify",
}


@dataclass
class ForeignModel:
    """A network as another program saved it."""

    state: dict[str, Tensor]  # in the order of the network's own state dict; floating entries as float32
    class_name: str  # of the root module, "ultralytics.nn.tasks.DetectionModel"
    yaml: dict[str, Any] | None
    names: dict[int, str] | None
    nc: int | None
    stride: Tensor | None  # (levels,) float32
    task: str | None
    args: dict[str, Any] | None
    meta: dict[str, Any] = field(default_factory=dict)  # epoch, date, version, license, results, … as far as plain


class PlainCopies:
    """Copies containers, numbers and text; tensors and objects become None, sets and tuples lists.

    One object serves a whole file, since its limit is for all copies together: a long list may stand under many names.
    """

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def __call__(self, value: Any, depth: int = 0) -> Any:
        """
        Raises:
            Unreadable: it contains itself, or there are far more values than any settings have.
        """
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            raise Unreadable("its settings contain each other without end")
        if isinstance(value, dict):
            return {key: self(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self(item, depth + 1) for item in value]
        if isinstance(value, set):
            return sorted((self(item, depth + 1) for item in value), key=str)
        if isinstance(value, Record | TensorRecord | Global):
            return None
        return value


class ForeignFile:
    """The content of a `.pt` file. Use as a context manager; tensors are read while it is open.

    Raises:
        Unreadable: the file is damaged, unsafe or of another kind.
    """

    def __init__(self, path: Path) -> None:
        self._archive = TorchArchive(path)
        try:
            self.content: Any = read_pickle(self._archive.pickle(), self._archive.check_storage)
        except BaseException:
            self._archive.__exit__(None, None, None)
            raise
        self._storages: dict[str, Tensor] = {}  # key → bytes
        self._tensors: dict[int, Tensor] = {}  # by id of the record: tied weights stay one tensor
        self._names_left = MAX_TENSORS
        self.plain = PlainCopies()
        # Views may overlap, so a small file could name a thousand of them; float16 doubles when it becomes float32.
        self._bytes_left = 8 * self._archive.total_bytes + 2**20

    def __enter__(self) -> ForeignFile:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._archive.__exit__(kind, error, trace)

    def verify(self) -> None:
        """Compare all numbers of the file with their checksums; reading a tensor does that for its own.

        Raises:
            Unreadable: some differ.
        """
        self._archive.verify()

    def tensor(self, record: TensorRecord) -> Tensor:
        """A tensor in memory of its own: floating types as float32, others as they are. To be called once for a name.

        Raises:
            Unreadable: its numbers are damaged, or the file names far more tensors than any model.
        """
        self._names_left -= 1
        if self._names_left < 0:
            raise Unreadable(f"it names more than {MAX_TENSORS} tensors, and no model needs that many")
        if id(record) not in self._tensors:
            dtype: torch.dtype = getattr(torch, record.storage.dtype)
            target = torch.float32 if dtype.is_floating_point else dtype
            self._bytes_left -= _count(record.size) * target.itemsize
            if self._bytes_left < 0:
                raise Unreadable("its tensors overlap so much that they would take far more memory than the file")
            numbers = self._bytes_of(record.storage.key).view(dtype)
            view = numbers.as_strided(record.size, record.stride, record.offset) if _count(record.size) else None
            made = torch.empty(record.size, dtype=target) if view is None else view.to(target, copy=True).contiguous()
            self._tensors[id(record)] = made
        return self._tensors[id(record)]

    def _bytes_of(self, key: str) -> Tensor:
        if key not in self._storages:
            data = self._archive.storage(key)
            self._storages[key] = (
                torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
            )
        return self._storages[key]


def _count(size: tuple[int, ...]) -> int:
    count = 1
    for length in size:
        count *= length
    return count


def read_foreign(path: str | Path) -> ForeignModel:
    """The network in a file that Ultralytics or another program pickled as a whole.

    Raises:
        CheckpointError: the file is damaged or unsafe, or holds no network.
    """
    try:
        with ForeignFile(Path(path)) as file:
            model = find_model(file)
    except Unreadable as found:
        raise CheckpointError(f"{path} cannot be used as weights: {found}. {found.advice}") from None
    if model is None:
        raise CheckpointError(f"{path} holds no network that was saved as a whole. Read it with `read_weights`.")
    return model


def find_model(file: ForeignFile) -> ForeignModel | None:
    """The network of a file: the averaged one (`ema`) before `model`, or the object itself; None if there is none."""
    content = file.content
    candidates = [content.get("ema"), content.get("model")] if isinstance(content, dict) else [content]
    root = next((value for value in candidates if _is_module(value)), None)
    if root is None:
        return None
    settings = _settings(root.attribute("args"), file)
    layers = file.plain(root.attribute("yaml"))
    stride = root.attribute("stride")
    return ForeignModel(
        state=module_state(root, file),
        class_name=root.name,
        yaml=layers if isinstance(layers, dict) else None,
        names=class_names(file.plain(root.attribute("names"))),
        nc=_class_count(root, layers),
        stride=file.tensor(stride) if isinstance(stride, TensorRecord) else None,
        task=_task(root, settings, layers),
        args=settings,
        meta=plain_entries(content, file, without=("ema", "model", "optimizer", "scaler"))
        if isinstance(content, dict)
        else {},
    )


def module_state(root: Record, file: ForeignFile) -> dict[str, Tensor]:
    """The state dict that the pickled module would have given: parameters, then buffers, then children."""
    state: dict[str, Tensor] = {}
    for name, record in _entries(root):
        state[name] = file.tensor(record)
    return state


def _entries(root: Record) -> Iterator[tuple[str, TensorRecord]]:
    entries = 0

    def walk(module: Record, prefix: str, depth: int) -> Iterator[tuple[str, TensorRecord]]:
        nonlocal entries
        parameters, buffers, modules = (_table(module, name) for name in ("_parameters", "_buffers", "_modules"))
        entries += len(parameters) + len(buffers) + len(modules)
        if entries > MAX_ENTRIES or depth > MAX_DEPTH:
            raise Unreadable("its modules contain each other without end")
        hidden = module.attribute("_non_persistent_buffers_set")
        hidden = hidden if isinstance(hidden, set) else set()  # in a long list every look would take long
        for name, value in parameters.items():
            if isinstance(value, TensorRecord):
                yield prefix + name, value
        for name, value in buffers.items():
            if isinstance(value, TensorRecord) and name not in hidden:
                yield prefix + name, value
        for name, value in modules.items():
            if isinstance(value, Record):
                yield from walk(value, f"{prefix}{name}.", depth + 1)

    yield from walk(root, "", 0)


def _table(module: Record, name: str) -> dict[str, Any]:
    table = module.attribute(name)
    if table is None:
        return {}
    if not isinstance(table, dict) or not all(isinstance(key, str) and len(key) <= MAX_NAME for key in table):
        raise Unreadable(f"{module.name} has no table of names under {name}")
    return table


def _is_module(value: Any) -> bool:
    return isinstance(value, Record) and isinstance(value.state, dict) and "_modules" in value.state


def _settings(value: Any, file: ForeignFile) -> dict[str, Any] | None:
    """`args` is a dict, or in older files a namespace object."""
    if isinstance(value, Record):
        value = value.state
    settings = file.plain(value)
    return settings if isinstance(settings, dict) else None


def _class_count(root: Record, layers: Any) -> int | None:
    found = root.attribute("nc")
    if not isinstance(found, int) and isinstance(layers, dict):
        found = layers.get("nc")
    return found if isinstance(found, int) else None


def _task(root: Record, settings: dict[str, Any] | None, layers: Any) -> str | None:
    named = (settings or {}).get("task") or root.attribute("task")
    by_class = TASK_OF_CLASS.get(root.name.rpartition(".")[2])
    rows = layers.get("head") if isinstance(layers, dict) else None
    last = rows[-1] if isinstance(rows, list) and rows else None
    by_head = TASK_OF_HEAD.get(str(last[2])) if isinstance(last, list | tuple) and len(last) > 2 else None
    if "rtdetr" in (by_class, by_head):  # there it trains under the name "detect", by classes of its own
        return "rtdetr"
    return named if isinstance(named, str) else by_class or by_head


def class_names(value: Any) -> dict[int, str] | None:
    """Class names as index → name, from a dict or a list; None if it is neither."""
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        return None
    try:
        return {int(index): str(name) for index, name in value.items()}
    except (TypeError, ValueError, OverflowError):  # the last for an infinite index
        return None


def plain_entries(content: dict[Any, Any], file: ForeignFile, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The entries of a checkpoint that are plain values."""
    found = {key: file.plain(value) for key, value in content.items() if isinstance(key, str) and key not in without}
    return {key: value for key, value in found.items() if value is not None}
