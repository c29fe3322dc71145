"""YOLO text labels: where the label file of an image is, which images a split has, and what the rows mean.

One object a line, whitespace between the columns, coordinates divided by the image's width and height:

    detect            class cx cy w h
    segment, obb      class x1 y1 x2 y2 x3 y3 …            (at least three points)
    pose              class cx cy w h, then K × (x y) or K × (x y v)

Nothing here opens an image; `verify.py` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.errors import DataError, MissingFileError

IMAGE_SUFFIXES = frozenset(
    {"avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"}
)
KEYPOINT_TASKS = ("pose",)  # their rows have keypoints behind the box
UPPER_LIMIT = 1.01  # tools that round to few digits write 1.001; more than this is pixels, not a fraction
LOWER_LIMIT = -0.01  # the same on the other side, for centres and keypoints only


# ------------------------------------------------------------------------------------------------- paths


def label_path(image_path: str | os.PathLike[str]) -> str:
    """The label file of an image: the last folder `images` becomes `labels`, the suffix becomes `.txt`.

    Without a folder `images` in the path the label lies beside the image.
    """
    path = os.fspath(image_path)
    images, labels = f"{os.sep}images{os.sep}", f"{os.sep}labels{os.sep}"
    head, found, tail = path.rpartition(images)
    if found:
        path = head + labels + tail
    stem, dot, suffix = path.rpartition(".")
    if not dot or os.sep in suffix:  # the last dot, if any, belongs to a folder
        return path + ".txt"
    return stem + ".txt"


def list_images(
    entries: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, root: Path | None = None
) -> list[str]:
    """All images of a split, sorted by full path.

    Args:
        entries: a folder (searched at any depth), a text file with one image path a line, or several of those.
        root: the data set's folder; a relative line of a text file is looked up beside the text file, then here, then
            in the working directory.

    Raises:
        MissingFileError: an entry does not exist, or there is no image in all of them.
    """
    entries = [entries] if isinstance(entries, (str, os.PathLike)) else list(entries)
    found: list[str] = []
    for entry in entries:
        path = Path(entry)
        if path.is_dir():
            found += _walk(path)
        elif path.is_file():
            found += _read_list(path, root)
        else:
            raise MissingFileError(
                f"{path} does not exist. It should be a folder with images or a text file that lists them."
            )
    images = sorted(path for path in found if path.rpartition(".")[2].lower() in IMAGE_SUFFIXES)
    if not images:
        names = ", ".join(str(entry) for entry in entries)
        raise MissingFileError(
            f"No image in {names} ({len(found)} other files). Suffixes that count: {', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return images


def _walk(folder: Path) -> list[str]:
    """Files below a folder. Links to folders are followed, once each; hidden files (`._x.jpg` of a Mac) are no data."""
    files: list[str] = []
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [os.path.join(place, name) for name in names if not name.startswith(".")]
    return files


def _read_list(path: Path, root: Path | None) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a UTF-8 text file with one image path a line ({error}).") from error
    bases = [path.parent, *([root] if root is not None else [])]
    return [_absolute(line.strip(), bases) for line in lines if line.strip()]


def _absolute(line: str, bases: Sequence[Path]) -> str:
    if line.startswith("./"):
        return os.path.join(bases[0], line[2:])
    if os.path.isabs(line):
        return line
    for base in bases:
        candidate = os.path.normpath(os.path.join(base, line))
        if os.path.exists(candidate):
            return candidate
    return os.path.abspath(line)


def take_fraction(paths: Sequence[str], fraction: float, seed: int = 0) -> list[str]:
    """A part of the images, spread evenly over the sorted list, in the same order.

    Args:
        fraction: (0, 1] keeps that share, at least one; a whole number above 1 keeps that many.
        seed: shifts the choice. One image is drawn from each of `count` stretches of equal length, so every sequence,
            camera or class folder is represented as it is in the whole.
    """
    total = len(paths)
    count = total if fraction == 1 else (int(fraction) if fraction > 1 else max(1, round(total * fraction)))
    if count >= total:
        return list(paths)
    edges = np.linspace(0, total, count + 1)
    chosen = edges[:-1] + np.random.default_rng([seed, total, count]).random(count) * np.diff(edges)
    return [paths[i] for i in np.minimum(chosen.astype(int), total - 1)]


# ------------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True, slots=True)
class LabelRules:
    """What a label file must look like.

    `keypoints` is (K, D) of the data set's `kpt_shape`: for the task pose a demand, for others leave to cut pose rows.
    """

    task: str = "detect"
    nc: int = 80
    keypoints: tuple[int, int] | None = None
    single_cls: bool = False
    source: str = "the data YAML"

    @property
    def pose(self) -> bool:
        return self.task in KEYPOINT_TASKS


@dataclass(slots=True)
class ParsedLabels:
    """The objects of one image.

    rows: (N, 5) float32 class, cx, cy, w, h. points: (P, 2) float32, the polygons one after the other, or (0, 2).
    counts: (N,) int64 points of each object's polygon, or (0,) when the file has boxes. keypoints: (N, K, 3) float32 or
    None. notices: remarks on a file that is used.
    """

    rows: np.ndarray
    points: np.ndarray
    counts: np.ndarray
    keypoints: np.ndarray | None
    notices: list[str]


class LabelFileError(DataError):
    """A label file that cannot be used; `problems` has a text for each bad line, with its number."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def no_labels(rules: LabelRules) -> ParsedLabels:
    """What a background image has."""
    keypoints = np.zeros((0, rules.keypoints[0], 3), np.float32) if rules.pose and rules.keypoints else None
    return ParsedLabels(
        np.zeros((0, 5), np.float32), np.zeros((0, 2), np.float32), np.zeros(0, np.int64), keypoints, []
    )


def parse_labels(content: bytes, rules: LabelRules) -> ParsedLabels:
    """Read the bytes of one label file.

    The whole file is checked at once; only when something is wrong is it read again, line by line, to say where.

    Raises:
        LabelFileError: with the number and the text of each bad line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelFileError([f"is not UTF-8 text ({error.reason} at byte {error.start})"]) from error
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(number, tokens) for number, tokens in lines if tokens]
    if not lines:
        return no_labels(rules)
    if rules.keypoints and not rules.pose:
        # A pose data set trains a detector: its rows are boxes followed by keypoints.
        full = 5 + rules.keypoints[0] * rules.keypoints[1]
        lines = [(number, tokens[:5] if len(tokens) == full else tokens) for number, tokens in lines]
    if not rules.pose and any(len(tokens) > 6 for _, tokens in lines):
        return _parse_polygons(lines, rules)
    return _parse_boxes(lines, rules)


def _parse_boxes(lines: list[tuple[int, list[str]]], rules: LabelRules) -> ParsedLabels:
    width = 5
    if rules.pose:
        if rules.keypoints is None:
            raise DataError(f"{rules.source}: task pose needs `kpt_shape: [K, D]`, which is not there.")
        width += rules.keypoints[0] * rules.keypoints[1]
    if any(len(tokens) != width for _, tokens in lines):
        wrong = [(number, len(tokens)) for number, tokens in lines if len(tokens) != width]
        bad = [(number, f"{count} columns instead of {width}{_column_hint(count, rules)}") for number, count in wrong]
        raise LabelFileError(_say(bad))
    values = _numbers(lines)  # (N, width)
    _check(values, lines, rules)
    keep = _first_of_equal([row.tobytes() for row in values])
    notices = _notices(values, keep, lines)
    values = values[keep]
    keypoints = None
    if rules.pose and rules.keypoints is not None:
        keypoints = values[:, 5:].reshape(len(values), *rules.keypoints)
        if rules.keypoints[1] == 2:
            visible = (keypoints >= 0).all(axis=2, keepdims=True).astype(np.float32)
            keypoints = np.concatenate([keypoints, visible], axis=2)
    rows = np.ascontiguousarray(values[:, :5])
    return ParsedLabels(rows, np.zeros((0, 2), np.float32), np.zeros(0, np.int64), keypoints, notices)


def _parse_polygons(lines: list[tuple[int, list[str]]], rules: LabelRules) -> ParsedLabels:
    bad = []
    for number, tokens in lines:
        if len(tokens) == 5:
            bad.append((number, "a box row among polygon rows; a file must have one kind"))
        elif len(tokens) < 7:
            bad.append((number, f"{len(tokens)} columns; a polygon row has a class and at least 3 points"))
        elif len(tokens) % 2 == 0:
            bad.append((number, f"an odd number of polygon coordinates ({len(tokens) - 1})"))
    if bad:
        raise LabelFileError(_say(bad))
    flat = _numbers([(number, tokens) for number, tokens in lines], ragged=True)
    lengths = np.array([len(tokens) for _, tokens in lines])
    starts = np.cumsum(lengths) - lengths
    coordinates = np.ones(len(flat), bool)
    coordinates[starts] = False
    points = flat[coordinates].reshape(-1, 2)  # (P, 2)
    counts = (lengths - 1) // 2  # (N,)
    first = np.cumsum(counts) - counts
    low, high = np.minimum.reduceat(points, first), np.maximum.reduceat(points, first)  # (N, 2) each
    rows = np.concatenate([flat[starts][:, None], (low + high) / 2, high - low], axis=1)  # (N, 5)
    _check(rows, lines, rules)
    keys = [flat[start : start + length].tobytes() for start, length in zip(starts, lengths, strict=True)]
    keep = _first_of_equal(keys)
    notices = _notices(rows, keep, lines)
    if not keep.all():
        points = points[np.repeat(keep, counts)]
        rows, counts = rows[keep], counts[keep]
    return ParsedLabels(np.ascontiguousarray(rows), points, counts.astype(np.int64), None, notices)


def _numbers(lines: list[tuple[int, list[str]]], *, ragged: bool = False) -> np.ndarray:
    """float32 values of all tokens: (N, columns), or flat when the rows differ in length."""
    try:
        values = np.array([float(token) for _, tokens in lines for token in tokens], dtype=np.float64)
    except ValueError:
        bad = []
        for number, tokens in lines:
            wrong = next((token for token in tokens if not _is_number(token)), None)
            if wrong is not None:
                bad.append((number, f"{wrong!r} is not a number"))
        raise LabelFileError(_say(bad)) from None
    with np.errstate(over="ignore"):  # 1e300 becomes inf, which the checks refuse
        values = values.astype(np.float32) + np.float32(0)  # -0.0 becomes 0.0, so that equal rows have equal bytes
    return values if ragged else values.reshape(len(lines), -1)


def _is_number(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True


def _check(values: np.ndarray, lines: list[tuple[int, list[str]]], rules: LabelRules) -> None:
    """values: (N, 5 or more). Raises LabelFileError for the lines that break a rule; the first rule broken is named."""
    limit = np.inf if rules.single_cls else rules.nc
    # min, max and a comparison of whole columns: this is what every sane file costs.
    sane = (
        values.min() >= 0
        and values[:, 1:5].max() <= UPPER_LIMIT
        and np.isfinite(values).all()
        and values[:, 0].max() < limit
        and (values[:, 0] == np.floor(values[:, 0])).all()
        and (not rules.pose or _keypoint_xy(values, rules).max() <= UPPER_LIMIT)
    )
    if sane:
        return
    bad = []
    for (number, tokens), row in zip(lines, values, strict=True):
        problem = _row_problem(row, tokens, rules)
        if problem:
            bad.append((number, problem))
    if bad:
        raise LabelFileError(_say(bad))


def _keypoint_xy(values: np.ndarray, rules: LabelRules) -> np.ndarray:
    assert rules.keypoints is not None
    return values[:, 5:].reshape(len(values), *rules.keypoints)[:, :, :2]


def _row_problem(row: np.ndarray, tokens: list[str], rules: LabelRules) -> str | None:
    """What is wrong with one row, or None."""
    if not np.isfinite(row).all():
        with np.errstate(over="ignore"):
            wrong = next((token for token in tokens if not np.isfinite(np.float32(token))), "a value")
        return f"{wrong} is not a finite number; coordinates are between 0 and 1"
    coordinates = row[1:5]
    if rules.pose:
        coordinates = np.concatenate([coordinates, _keypoint_xy(row[None], rules).ravel()])
    if coordinates.max() > UPPER_LIMIT:
        return f"coordinate {coordinates.max():g}; coordinates are divided by the image size and at most 1"
    if row[0] < 0:
        return f"class {tokens[0]} is negative; {_classes(rules)}"
    if min(row[3], row[4]) < 0:
        return f"width or height {min(row[3], row[4]):g} is negative; coordinates are between 0 and 1"
    if row.min() < LOWER_LIMIT:
        return f"coordinate {row.min():g} is negative; coordinates are between 0 and 1"
    if row[0] != np.floor(row[0]):
        return f"class {tokens[0]} is not a whole number; {_classes(rules)}"
    if not rules.single_cls and row[0] >= rules.nc:
        return f"class {int(row[0])}, but {_classes(rules)}"
    return None


def _classes(rules: LabelRules) -> str:
    return f"{rules.source} names {f'{rules.nc} classes (0-{rules.nc - 1})' if rules.nc > 1 else '1 class (0)'}"


def _first_of_equal(keys: list[bytes]) -> np.ndarray:
    """(N,) bool: True for the first of each group of equal rows."""
    keep = np.ones(len(keys), bool)
    if len(set(keys)) == len(keys):
        return keep
    seen: set[bytes] = set()
    for i, key in enumerate(keys):
        keep[i] = key not in seen
        seen.add(key)
    return keep


def _notices(rows: np.ndarray, keep: np.ndarray, lines: list[tuple[int, list[str]]]) -> list[str]:
    """Remarks on a file that is used: duplicates left out, boxes without area (kept)."""
    notices = []
    if not keep.all():
        removed = [lines[i][0] for i in np.flatnonzero(~keep)]
        notices.append(f"{_lines(removed)}: {len(removed)} duplicate label{'s' if len(removed) > 1 else ''} removed")
    flat = (rows[:, 3:5] == 0).any(axis=1) & keep
    if flat.any():
        numbers = [lines[i][0] for i in np.flatnonzero(flat)]
        notices.append(f"{_lines(numbers)}: {len(numbers)} box{'es' if len(numbers) > 1 else ''} without area")
    return notices


def _say(bad: list[tuple[int, str]]) -> list[str]:
    return [f"line {number}: {problem}" for number, problem in bad]


def _lines(numbers: list[int]) -> str:
    return f"line{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _column_hint(columns: int, rules: LabelRules) -> str:
    if rules.pose:
        return f" (class, box and {rules.keypoints} keypoints)"
    return " (class cx cy w h)" if columns < 7 else ""
