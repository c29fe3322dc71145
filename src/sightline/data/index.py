"""All labels of a list of images in a few flat arrays, checked once and kept on disk.

A million images cost megabytes: no Python object per image or box. The arrays are memory-mapped from the cache file, so
worker processes share them and sending an index to a worker sends a file name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.data.array_file import map_arrays, write_arrays
from sightline.data.formats.yolo import LabelRules, label_path
from sightline.data.verify import Pair, read_label_file, verify_pair
from sightline.errors import DataError, OutputError
from sightline.files import atomic_write, cache_folder
from sightline.log import LOGGER

if TYPE_CHECKING:
    from sightline.data.spec import DatasetSpec

VERSION = 3  # of the rules and the arrays below; a cache of another version is made anew
SHOWN = 20  # lines of each sort in the log, when a file has them all
KEPT_CACHES = 4  # files beside the labels of one folder: other lists of images, other tasks
MANY = 5000  # images that take long enough to check for people to wonder
POLYGON_TASKS = ("segment", "obb")


@dataclass(slots=True)
class ScanReport:
    """What the check of all images and label files found.

    problems: why pairs were dropped; notices: what is odd about pairs that are used; each names file and line.
    """

    total: int = 0
    found: int = 0
    missing: int = 0
    empty: int = 0
    corrupt: int = 0
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    name: str = ""

    @property
    def messages(self) -> list[str]:
        return [*self.problems, *self.notices]

    @property
    def usable(self) -> int:
        return self.total - self.corrupt

    def add(self, pair: Pair) -> None:
        self.total += 1
        self.found += pair.found
        self.missing += pair.missing
        self.empty += pair.empty
        self.corrupt += pair.corrupt
        self.problems += pair.problems
        self.notices += pair.notices

    def counts(self) -> str:
        """`{found} images, {backgrounds} backgrounds, {corrupt} corrupt`, the line people know."""
        return f"{self.found} images, {self.missing + self.empty} backgrounds, {self.corrupt} corrupt"

    @property
    def is_long(self) -> bool:
        return max(len(self.problems), len(self.notices)) > SHOWN

    def summary(self, *, all_in: Path | None = None) -> str:
        """The counts, then every defect by file and line; if the file `all_in` has them, the first few of each sort."""
        lines = [f"{self.name + ': ' if self.name else ''}{self.counts()}"]
        for title, texts in (("left out", self.problems), ("used, but", self.notices)):
            shown = texts[:SHOWN] if all_in else texts
            lines += [f"  {title}: {text}" for text in shown]
            if len(texts) > len(shown):
                lines.append(f"  … and {len(texts) - len(shown)} more such lines; {all_in} has them all")
        return "\n".join(lines)

    def log(self, *, all_in: Path | None = None) -> None:
        (LOGGER.warning if self.problems else LOGGER.info)(self.summary(all_in=all_in))


@dataclass(slots=True)
class ImageLabels:
    """The objects of one image.

    classes: (n,) float32. boxes: (n, 4) float32 xywh divided by the image size. polygons: n arrays (p, 2), or None when
    the label file has boxes. keypoints: (n, K, 3) or None.
    """

    classes: np.ndarray
    boxes: np.ndarray
    polygons: list[np.ndarray] | None
    keypoints: np.ndarray | None


class PathList(Sequence[str]):
    """Strings in one byte array."""

    def __init__(self, content: np.ndarray, offsets: np.ndarray) -> None:
        self._content, self._offsets = content, offsets  # (bytes,) uint8, (n + 1,) int64

    @staticmethod
    def pack(paths: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        encoded = [os.fsencode(path) for path in paths]
        offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return np.frombuffer(b"".join(encoded), np.uint8), offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        i = int(i)
        if not -len(self) <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        i %= len(self)
        return os.fsdecode(self._content[self._offsets[i] : self._offsets[i + 1]].tobytes())

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class LabelIndex:
    """Labels of n images with R objects in all.

    The arrays, by name in `arrays`: shapes (n, 2) int32 upright height, width; row_offsets (n + 1) int64; rows (R, 5)
    float32 class, cx, cy, w, h; point_offsets (R + 1) int64 and points (P, 2) float32, the polygons (a box row has
    none; both have length 0 where no file has polygons); keypoints (R, K, 3) float32; path_bytes, path_offsets.
    Do not write into them: they may be mapped from a file.
    """

    def __init__(
        self, arrays: dict[str, np.ndarray], report: ScanReport, *, file: str | None = None, key: str = ""
    ) -> None:
        self.arrays = arrays
        self.report = report
        self._file, self._key = file, key
        self.paths = PathList(arrays["path_bytes"], arrays["path_offsets"])

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def shapes(self) -> np.ndarray:
        """(n, 2) height, width of each image, upright."""
        return self.arrays["shapes"]

    @property
    def boxes(self) -> np.ndarray:
        """(R, 4) xywh divided by the image size, of all images one after the other."""
        return self.arrays["rows"][:, 1:]

    @property
    def classes(self) -> np.ndarray:
        """(R,) float32."""
        return self.arrays["rows"][:, 0]

    @property
    def keypoints(self) -> np.ndarray | None:
        """(R, K, 3) x, y divided by the image size, visibility, one row for each of `boxes`; None without keypoints."""
        return self.arrays.get("keypoints")

    @property
    def has_polygons(self) -> bool:
        """Whether any object has one."""
        return len(self.arrays["points"]) > 0

    @property
    def polygon_count(self) -> int:
        """How many objects have one."""
        return int((np.diff(self.arrays["point_offsets"]) > 0).sum()) if self.has_polygons else 0

    def labels(self, i: int) -> ImageLabels:
        """The objects of image `i`. The arrays are views; copy before changing one."""
        first, last = self.arrays["row_offsets"][i : i + 2]
        rows = self.arrays["rows"][first:last]
        polygons = keypoints = None
        if self.has_polygons:
            offsets = self.arrays["point_offsets"][first : last + 1]
            if len(rows) and (np.diff(offsets) > 0).all():
                points = self.arrays["points"]
                polygons = [points[start:end] for start, end in pairwise(offsets)]
        if "keypoints" in self.arrays:
            keypoints = self.arrays["keypoints"][first:last]
        return ImageLabels(rows[:, 0], rows[:, 1:], polygons, keypoints)

    def object_counts(self) -> np.ndarray:
        """(n,) objects of each image."""
        return np.diff(self.arrays["row_offsets"])

    def class_counts(self, nc: int) -> np.ndarray:
        """(nc,) objects of each class."""
        return np.bincount(self.classes.astype(np.int64), minlength=nc)[:nc]

    def with_classes(self, classes: Iterable[int]) -> LabelIndex:
        """Only objects of these classes; images without any left stay, as backgrounds."""
        return self._select_rows(np.isin(self.classes, np.array(list(classes), dtype=np.float32)))

    def as_single_class(self) -> LabelIndex:
        """Every object becomes class 0."""
        rows = self.arrays["rows"].copy()
        rows[:, 0] = 0
        return LabelIndex({**self.arrays, "rows": rows}, self.report)

    def subset(self, indices: Iterable[int]) -> LabelIndex:
        """These images in this order; an image may occur several times."""
        chosen = np.asarray(list(indices), dtype=np.int64)
        arrays = dict(self.arrays)
        arrays["shapes"] = self.shapes[chosen]
        arrays["path_bytes"], arrays["path_offsets"] = PathList.pack(self.paths[i] for i in chosen)
        counts = self.object_counts()[chosen]
        arrays["row_offsets"] = _offsets(counts)
        rows = _ranges(self.arrays["row_offsets"][chosen], counts)
        return LabelIndex(_take_rows(arrays, rows), self.report)

    def _select_rows(self, keep: np.ndarray) -> LabelIndex:
        """keep: (R,) bool."""
        image = np.repeat(np.arange(len(self)), self.object_counts())
        arrays = dict(self.arrays)
        arrays["row_offsets"] = _offsets(np.bincount(image[keep], minlength=len(self)))
        return LabelIndex(_take_rows(arrays, np.flatnonzero(keep)), self.report)

    def __getstate__(self) -> dict[str, Any]:
        if self._file is None:
            return {"arrays": self.arrays, "report": self.report}
        return {"file": self._file, "key": self._key}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "arrays" in state:
            self.__init__(state["arrays"], state["report"])  # type: ignore[misc]
            return
        found = _load(Path(state["file"]), state["key"])
        if found is None:
            raise DataError(f"The label cache {state['file']} changed while the run was starting; start it again.")
        self.__init__(found.arrays, found.report, file=state["file"], key=state["key"])  # type: ignore[misc]


def _offsets(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """start, start + 1, … (counts of them) for each start, one after the other."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)


def _take_rows(arrays: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """The object arrays reduced to `rows` (indices); image arrays untouched."""
    if len(arrays["points"]):
        counts = np.diff(arrays["point_offsets"])[rows]
        arrays["points"] = arrays["points"][_ranges(arrays["point_offsets"][rows], counts)]
        arrays["point_offsets"] = _offsets(counts)
    if "keypoints" in arrays:
        arrays["keypoints"] = arrays["keypoints"][rows]
    arrays["rows"] = arrays["rows"][rows]
    return arrays


# ------------------------------------------------------------------------------------------------- building


def build_index(
    image_paths: Sequence[str | os.PathLike[str]],
    spec: DatasetSpec,
    *,
    task: str = "detect",
    single_cls: bool = False,
    classes: Sequence[int] | None = None,
    cache: bool = True,
    require_labels: bool = True,
    name: str = "",
    threads: int | None = None,
) -> LabelIndex:
    """Check all images and label files, and say in one summary what is wrong with which.

    Args:
        image_paths: what `list_images` gives.
        spec: names, class count and keypoint shape of the data set.
        single_cls: every object becomes class 0, and class numbers of label files may be any.
        classes: keep only objects of these classes of the label files.
        cache: keep the result beside the labels (or in the user's cache folder, where that cannot be written). It is
            used again only while every label file has the same content and every image the same size and time. A list
            of defects too long for the log lies beside it, as text; without a cache the log has them all.
        require_labels: whether no label file at all is an error (training) or a warning (validation).
        name: of the split, for messages.
        threads: for reading; default 4 a core, at most 16, because most of the time goes into waiting for the disk.

    Raises:
        DataError: no image is usable (with the distinct reasons), there is no label file although labels are required,
            or the task needs polygons that some objects lack.
    """
    paths = [os.fspath(path) for path in image_paths]
    if not paths:
        raise DataError(f"{name or 'The data set'}: the list of images is empty.")
    rules = LabelRules(task, spec.nc, spec.kpt_shape, single_cls, spec.source)
    threads = threads or min(16, 4 * (os.cpu_count() or 1))
    with ThreadPoolExecutor(threads) as pool:
        contents = list(pool.map(read_label_file_or_none, map(label_path, paths), chunksize=64))
        key = _key(paths, contents, rules, list(pool.map(_stamp, paths, chunksize=64)))
        index = _cached(paths, rules, key) if cache else None
        if index is None:
            if len(paths) >= MANY:
                LOGGER.info(f"{name or spec.source}: checking {len(paths)} images and their labels, once")
            pairs = list(pool.map(lambda item: _verify(item, rules), zip(paths, contents, strict=True), chunksize=32))
            index = _assemble(pairs, rules)
            if cache:
                index = _store(index, paths, rules, key)
    index.report.name = name
    all_in = _write_report(index.report, _cache_files(paths, rules)) if cache else None
    if len(index):  # else the error says it all
        index.report.log(all_in=all_in)
    _judge(index, paths, rules, require_labels=require_labels, all_in=all_in)
    if classes is not None:
        index = index.with_classes(classes)
    return index.as_single_class() if single_cls else index


def read_label_file_or_none(path: str) -> bytes | OSError | None:
    """The bytes; None when there is no such file; the error when it is there but cannot be read."""
    try:
        return read_label_file(path)
    except OSError as error:
        return error


def _verify(item: tuple[str, bytes | OSError | None], rules: LabelRules) -> Pair:
    path, content = item
    # A file that cannot be read, or is not there, is looked at again: that gives the message.
    return verify_pair(path, rules, content=content if isinstance(content, bytes) else None)


def _assemble(pairs: Sequence[Pair], rules: LabelRules) -> LabelIndex:
    report = ScanReport()
    for pair in pairs:
        report.add(pair)
    kept = [(pair, pair.labels) for pair in pairs if pair.labels is not None]
    labels = [label for _, label in kept]
    counts = np.array([len(label.rows) for label in labels], dtype=np.int64)
    arrays: dict[str, np.ndarray] = {
        "shapes": np.array([(pair.height, pair.width) for pair, _ in kept], dtype=np.int32).reshape(-1, 2),
        "row_offsets": _offsets(counts),
        "rows": np.concatenate([label.rows for label in labels] or [np.zeros((0, 5), np.float32)]),
        "points": np.concatenate([label.points for label in labels] or [np.zeros((0, 2), np.float32)]),
    }
    per_row = [label.counts if len(label.counts) else np.zeros(len(label.rows), np.int64) for label in labels]
    any_points = len(arrays["points"]) > 0
    arrays["point_offsets"] = _offsets(np.concatenate(per_row)) if any_points else np.zeros(0, np.int64)
    if rules.pose and rules.keypoints is not None:
        none = np.zeros((0, rules.keypoints[0], 3), np.float32)
        arrays["keypoints"] = np.concatenate(
            [none, *[label.keypoints for label in labels if label.keypoints is not None]]
        )
    arrays["path_bytes"], arrays["path_offsets"] = PathList.pack(pair.image for pair, _ in kept)
    return LabelIndex(arrays, report)


def _judge(
    index: LabelIndex, paths: Sequence[str], rules: LabelRules, *, require_labels: bool, all_in: Path | None
) -> None:
    report, name = index.report, index.report.name or rules.source
    if not len(index):
        distinct = list(dict.fromkeys(report.problems))
        shown = distinct[:SHOWN] if all_in else distinct
        listed, left = "\n  ".join(shown), len(distinct) - len(shown)
        more = f"\n  … and {left} more; {all_in} has them all" if left else ""
        raise DataError(
            f"{name}: none of the {report.total} images can be used. Correct these files, or {rules.source}:\n"
            f"  {listed}{more}"
        )
    if not report.found:
        text = (
            f"{name}: no label file found for any of {report.total} images. For {paths[0]} it should be "
            f"{label_path(paths[0])} (the last folder `images` of the path becomes `labels`)."
        )
        if require_labels:
            raise DataError(text)
        LOGGER.warning(text)
    elif not len(index.arrays["rows"]):
        LOGGER.warning(
            f"{name}: the {report.found} label files hold no object at all; there is nothing to learn or to find."
        )
    if rules.task in POLYGON_TASKS:
        lacking = len(index.arrays["rows"]) - index.polygon_count
        if lacking:
            raise DataError(
                f"{name}: {lacking} of {len(index.arrays['rows'])} objects have no polygon, which task={rules.task} "
                "needs. Every row must be `class x1 y1 x2 y2 x3 y3 …`; data of boxes trains task=detect."
            )


# ------------------------------------------------------------------------------------------------- cache


def _stamp(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (-1, -1)
    return (status.st_size, status.st_mtime_ns)


def _key(
    paths: Sequence[str],
    contents: Sequence[bytes | OSError | None],
    rules: LabelRules,
    stamps: Sequence[tuple[int, int]],
) -> str:
    """A hash of everything the index depends on. Label files count with their content: a time stamp can lie."""
    digest = hashlib.blake2b(repr((VERSION, asdict(rules))).encode(), digest_size=32)
    for path, content, stamp in zip(paths, contents, stamps, strict=True):
        length = len(content) if isinstance(content, bytes) else repr(content)
        digest.update(os.fsencode(f"\0{path}\0{stamp}\0{length}\0"))
        if isinstance(content, bytes):
            digest.update(content)
    return digest.hexdigest()


def _cache_files(paths: Sequence[str], rules: LabelRules) -> list[Path]:
    """Where the cache of this list may lie: beside the folder of the labels, else in the user's cache folder."""
    digest = hashlib.blake2b(repr((rules.task, rules.single_cls)).encode(), digest_size=4)
    digest.update(os.fsencode("\0".join(paths)))
    labels = Path(label_path(paths[0])).absolute().parent
    name = f"{labels.name}.{digest.hexdigest()}.sightline.cache"
    own = cache_folder("labels") / f"{hashlib.blake2b(os.fsencode(labels), digest_size=8).hexdigest()}-{name}"
    return [labels.parent / name, own] if _is_writable(labels.parent) else [own]


def _is_writable(folder: Path) -> bool:
    """Root may write anywhere, but a folder without any write permission is meant to stay as it is."""
    try:
        mode = folder.stat().st_mode
    except OSError:
        return False
    return bool(mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)) and os.access(folder, os.W_OK)


def _cached(paths: Sequence[str], rules: LabelRules, key: str) -> LabelIndex | None:
    return next((index for file in _cache_files(paths, rules) if (index := _load(file, key)) is not None), None)


def _load(file: Path, key: str) -> LabelIndex | None:
    """The index of a cache file, or None when there is none, it is damaged, or it is of other data."""
    try:
        arrays, facts = map_arrays(file)
        if facts.get("key") != key or not _adds_up(arrays):
            return None
        return LabelIndex(arrays, ScanReport(**facts["report"]), file=str(file), key=key)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _adds_up(arrays: dict[str, np.ndarray]) -> bool:
    """Whether the offsets of a file stay inside its arrays, so that no later access can fail."""

    def fits(offsets: np.ndarray, count: int, length: int) -> bool:
        return (
            len(offsets) == count + 1
            and offsets[0] == 0
            and offsets[-1] == length
            and bool((np.diff(offsets) >= 0).all())
        )

    images, rows = len(arrays["shapes"]), len(arrays["rows"])
    return (
        arrays["shapes"].shape[1:] == (2,)
        and arrays["rows"].shape[1:] == (5,)
        and fits(arrays["row_offsets"], images, rows)
        and fits(arrays["path_offsets"], images, len(arrays["path_bytes"]))
        and (not len(arrays["points"]) or fits(arrays["point_offsets"], rows, len(arrays["points"])))
        and ("keypoints" not in arrays or len(arrays["keypoints"]) == rows)
    )


def _store(index: LabelIndex, paths: Sequence[str], rules: LabelRules, key: str) -> LabelIndex:
    """Write the cache and return the index as mapped from it; where no file can be written, the index in memory."""
    facts = {"key": key, "report": asdict(index.report)}
    for file in _cache_files(paths, rules):
        try:
            write_arrays(file, index.arrays, facts)
        except OutputError:
            continue
        _forget_old(file)
        return _load(file, key) or index
    return index


def _forget_old(file: Path) -> None:
    """Of the caches of one label folder keep the newest few; each is for another list of images."""
    siblings = [path for path in file.parent.glob("*.sightline.cache") if _folder_part(path) == _folder_part(file)]
    siblings.sort(key=lambda path: -path.stat().st_mtime)
    for old in siblings[KEPT_CACHES:]:
        old.unlink(missing_ok=True)
        _report_file(old).unlink(missing_ok=True)


def _folder_part(file: Path) -> str:
    """Of `<label folder>.<digest>.sightline.cache`; the folder's name may have dots itself."""
    return file.name.rsplit(".", 3)[0]


def _report_file(cache_file: Path) -> Path:
    return cache_file.with_suffix(".txt")


def _write_report(report: ScanReport, cache_files: Sequence[Path]) -> Path | None:
    """The file with all defects, beside the cache. None if the log has room for them, or no file can be written."""
    for file in map(_report_file, cache_files):
        if not report.is_long:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)  # of an earlier check: its defects are no more
            continue
        try:
            with atomic_write(file, "w", durable=False, encoding="utf-8", errors="surrogateescape") as out:
                out.write(report.summary() + "\n")
        except OutputError:
            continue
        return file
    return None
