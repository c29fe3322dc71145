"""`sightline doctor data data=…`: label defects, class balance, box sizes, near-duplicates, suspicious labels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from sightline.config.settings import Settings
from sightline.data.formats.yolo import KEYPOINT_TASKS, label_path
from sightline.data.index import LabelIndex, build_index
from sightline.data.spec import DatasetSpec, load_dataset_spec
from sightline.doctor.near_duplicates import difference_hashes, near_pairs
from sightline.doctor.suspicious import REMEDIES, suspicious
from sightline.errors import DataError, MissingFileError, UsageError

SHOWN = 5  # examples of each sort
EDGES = (4, 8, 16, 32, 96, np.inf)  # pixels at imgsz: strides 4 (-p2), 8, 16, 32, and COCO's "large"
SMALL_SIDE, TINY_SIDE = 8, 4  # the strides of the finest level, with and without -p2
MANY = 0.2  # share of the objects for which a change of imgsz or network pays
RARE, UNBALANCED = 20, 50  # objects of a class; largest class over smallest
MOST_HASHED = 20_000  # images of a split; above that, evenly chosen ones


@dataclass
class SplitReport:
    """One split: counts, defects, and the labels themselves."""

    name: str
    index: LabelIndex
    suspicious: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class DataReport:
    """What was found in a data set.

    Attributes:
        splits: that exist, train first.
        absent: split → why nothing can be said of it.
        pairs: (split, image, other split, image there, bits of 256 that differ) of near-duplicates across splits.
        imgsz: for which the sizes are.
    """

    spec: DatasetSpec
    imgsz: int
    splits: list[SplitReport]
    absent: dict[str, str]
    pairs: list[tuple[str, str, str, str, int]]

    def lines(self) -> Iterator[str]:
        yield f"{self.spec.source}: {self.spec.nc} classes"
        for split in self.splits:
            yield from _defects(split)
        yield from (f"! {name}: {why}" for name, why in self.absent.items())
        yield from self._balance()
        yield from self._keypoints()
        yield from self._sizes()
        yield from self._duplicates()
        for split in self.splits:
            yield from _suspicions(split)

    def _balance(self) -> Iterator[str]:
        counts = {split.name: split.index.class_counts(self.spec.nc) for split in self.splits}
        yield (
            "classes: "
            + "; ".join(
                f"{name} " + ", ".join(f"{split} {counts[split][number]}" for split in counts)
                for number, name in list(self.spec.names.items())[:20]
            )
            + (" …" if self.spec.nc > 20 else "")
        )
        train = counts["train"]
        absent = [name for number, name in self.spec.names.items() if train[number] == 0]
        rare = [f"{name} ({train[number]})" for number, name in self.spec.names.items() if 0 < train[number] < RARE]
        if absent:
            yield f"! no training object of {_list(absent)}: label some, or take the name out."
        if rare:
            yield f"! fewer than {RARE} training objects of {_list(rare)}: their scores will be chance."
        some = train[train > 0]
        if len(some) > 1 and some.max() > UNBALANCED * some.min():
            yield (
                f"! the largest class has {some.max() / some.min():.0f} times the objects of the smallest: "
                "class_weights=auto or repeat_factor=0.05."
            )

    def _keypoints(self) -> Iterator[str]:
        points = self.splits[0].index.keypoints
        if points is None or not len(points):
            return
        labelled = points[..., 2] > 0  # (R, K)
        counts = labelled.sum(axis=0).tolist()
        yield (
            f"keypoints: {int(labelled.any(axis=1).sum())} of {len(points)} training objects have labelled ones; each "
            f"of the {len(counts)}: " + ", ".join(map(str, counts[:20])) + (" …" if len(counts) > 20 else "")
        )
        if never := [str(number) for number, count in enumerate(counts) if count == 0]:
            yield f"! no training object has keypoint {_list(never)} labelled, so where it is will not be learnt."
        if self.spec.flip_idx is None:
            yield "! flip_idx is missing, so there are no mirrored images in training: docs/pose.md."

    def _sizes(self) -> Iterator[str]:
        sides = side_lengths(self.splits[0].index, self.imgsz)
        if not len(sides):
            return
        counts, low = np.histogram(sides, bins=(0, *EDGES))[0], 0.0
        yield f"side of the training objects in pixels at imgsz={self.imgsz} (√(w·h)):"
        for high, count in zip(EDGES, counts, strict=True):
            name = f"{low:.0f} to {high:.0f}" if np.isfinite(high) else f"{low:.0f} and more"
            yield f"  {name:>12} {count:7} {'█' * round(40 * count / len(sides))}"
            low = high
        yield from size_advice(sides, self.imgsz)

    def _duplicates(self) -> Iterator[str]:
        sizes = {split.name: len(split.index) for split in self.splits}
        some = "".join(
            f" (of {len(looked_at(n))} of {n} {name} images)" for name, n in sizes.items() if n > MOST_HASHED
        )
        if not self.pairs:
            yield f"near-duplicates across splits{some}: none"
            return
        yield (
            f"! near-duplicates across splits{some}: {len(self.pairs)}; take them out of one split, or scores are too "
            "good:"
        )
        yield from _examples(
            [
                f"{split} {image} ~ {other} {twin} ({'identical' if bits == 0 else f'{bits} of 256 bits differ'})"
                for split, image, other, twin, bits in self.pairs
            ]
        )


def examine(settings: Settings) -> DataReport:
    """Look at every label and image of the data set that `data` names.

    Raises:
        UsageError: no data set is named. DataError, MissingFileError: its training images cannot be used at all.
    """
    if settings.data is None:
        raise UsageError("doctor data needs a data set: data=file.yaml, or data=shapes for the built-in one.")
    spec = load_dataset_spec(settings.data, split="train")
    # Labels of keypoints are to be looked at, too, unless they are meant for a detector.
    task = KEYPOINT_TASKS[0] if spec.kpt_shape and not settings.is_user_set("task") else settings.task
    imgsz = settings.imgsz if isinstance(settings.imgsz, int) else max(settings.imgsz)

    def look(name: str) -> SplitReport:
        index = build_index(spec.images(name), spec, task=task, require_labels=False, name=name)
        return SplitReport(name, index, suspicious(index, spec.names, imgsz))

    splits, absent = [look("train")], {}
    for name in ("val", "test"):
        if spec.splits.get(name):
            try:
                splits.append(look(name))
            except (DataError, MissingFileError) as error:  # the other splits can be judged all the same
                absent[name] = str(error)
    return DataReport(spec, imgsz, splits, absent, _near_duplicates(splits))


def side_lengths(index: LabelIndex, imgsz: int) -> np.ndarray:
    """(R,) √(w·h) of every object in pixels, when the longer side of its image is `imgsz`."""
    counts = index.object_counts()
    shapes = np.repeat(index.shapes, counts, axis=0)
    sides: np.ndarray = np.sqrt((index.boxes[:, 2:] * shapes[:, ::-1]).prod(axis=1)) * imgsz / shapes.max(axis=1)
    return sides


def size_advice(sides: np.ndarray, imgsz: int) -> Iterator[str]:
    """What the sizes of the objects say about imgsz and the finest level of the network."""
    small, tiny = float((sides < SMALL_SIDE).mean()), float((sides < TINY_SIDE).mean())
    if small > MANY:
        typical = max(float(np.quantile(sides, MANY / 2)), SMALL_SIDE / 4)  # no more than four times the size
        larger = f"imgsz={math.ceil(imgsz * SMALL_SIDE / typical / 32) * 32}"
        if tiny > MANY:
            yield (
                f"! {tiny:.0%} of the objects are smaller than {TINY_SIDE} pixels, which no level can place: {larger}, "
                "and a network with a finer level (yolo26n-p2.yaml)."
            )
        else:
            yield (
                f"! {small:.0%} of the objects are smaller than the finest stride of {SMALL_SIDE} pixels: {larger}, or "
                "a network with a finer level (yolo26n-p2.yaml)."
            )
    elif np.quantile(sides, MANY) > 96 and imgsz > 320:
        smaller = max(int(imgsz * 64 / np.quantile(sides, MANY) // 32 * 32), 160)
        yield f"objects are large (four of five above 96 pixels): imgsz={smaller} would train faster."


def looked_at(count: int) -> range:
    """Which of `count` images are compared with those of other splits."""
    return range(0, count, max(1, -(-count // MOST_HASHED)))


def _near_duplicates(splits: list[SplitReport]) -> list[tuple[str, str, str, str, int]]:
    hashed = []
    for split in splits:
        paths = [split.index.paths[i] for i in looked_at(len(split.index))]
        hashed.append((split.name, paths, difference_hashes(paths)))
    found = []
    for i, (name, paths, hashes) in enumerate(hashed):
        for other, twins, theirs in hashed[:i]:
            found += [(name, paths[row], other, twins[twin], bits) for row, twin, bits in near_pairs(hashes, theirs)]
    return sorted(found, key=lambda pair: pair[-1])


def _defects(split: SplitReport) -> Iterator[str]:
    report = split.index.report
    backgrounds = report.missing + report.empty
    mark = "! " if report.corrupt or len(split.index.classes) == 0 else ""
    yield (
        f"{mark}{split.name}: {report.total} images, {len(split.index.classes)} objects, {backgrounds} without objects "
        f"({report.missing} without label file), {report.corrupt} cannot be used"
    )
    for title, texts in (("left out", report.problems), ("used, but", report.notices)):
        yield from _examples([f"{title}: {text}" for text in texts])
    if report.corrupt:
        yield "    Correct these files: an image is left out whole as long as one of its lines is wrong."
    if report.missing > MANY * report.total:
        yield (
            f"! {split.name}: {report.missing} of {report.total} images have no label file and count as images without "
            f"objects. For {split.index.paths[0]} it would be {label_path(split.index.paths[0])}; if nothing is there "
            "to see, an empty file says so."
        )


def _suspicions(split: SplitReport) -> Iterator[str]:
    for kind, texts in split.suspicious.items():
        yield f"? {split.name}: {len(texts)} label{'s' if len(texts) > 1 else ''} suspicious ({kind}): {REMEDIES[kind]}"
        yield from _examples(texts)


def _examples(texts: list[str]) -> Iterator[str]:
    yield from (f"    {text}" for text in texts[:SHOWN])
    if len(texts) > SHOWN:
        yield f"    … and {len(texts) - SHOWN} more"


def _list(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
