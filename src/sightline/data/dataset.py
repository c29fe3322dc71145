"""Images with labels, one at a time, augmented or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset

from sightline.data.collate import Failure, collate
from sightline.data.images import ImageError
from sightline.data.repeat import RepeatFactors, repeated_length
from sightline.data.sampler import SampleKey
from sightline.data.transforms.format import to_tensors
from sightline.data.unreadable import KEY, MOST_IN_A_ROW
from sightline.data.work_times import batch_begins, reading
from sightline.errors import SightlineError
from sightline.ops.boxes import xywhn_to_xyxy
from sightline.ops.letterbox import RectBatches, rect_batches
from sightline.structures.sample import Labels, Sample

if TYPE_CHECKING:
    from sightline.data.images import ImageReader
    from sightline.data.index import LabelIndex
    from sightline.data.transforms.pipeline import Pipeline


class Rect(NamedTuple):
    """How to make rectangular batches: border in strides, stride in pixels, images per batch."""

    pad: float
    stride: int
    batch: int


class DetectionDataset(Dataset[dict[str, Any]]):
    """Image `key` of an index as the tensors of `to_tensors`.

    `dataset[SampleKey(epoch, index, mixing)]` is a function of the seed and the key alone: any process, any order, any
    number of times, it gives the same numbers. `dataset[i]`, as torch's own loaders ask, is the sample of the epoch
    that `set_epoch` was told, else of epoch 0.

    Args:
        index: labels and paths.
        reader: pixels; `reader.load(i)` belongs to `index.labels(i)`.
        imgsz: side of the network's square, pixels.
        pipeline: transforms, see `transforms/pipeline.py`.
        seed: of the run.
        rect: batches of like shape instead of squares; the loader must use `rect_batches`.
        channels: of the images.
        repeat: how often each image comes in a training epoch; None: once.
        unreadable: what to do with a file that cannot be decoded: "raise"; "replace" it by the next image that can be
            (a function of the number and the files alone, too); or "skip" it, so that a batch is shorter.
    """

    def __init__(
        self,
        index: LabelIndex,
        reader: ImageReader,
        *,
        imgsz: int,
        pipeline: Pipeline,
        seed: int = 0,
        rect: Rect | None = None,
        channels: int = 3,
        repeat: RepeatFactors | None = None,
        unreadable: str = "raise",
    ) -> None:
        assert unreadable in ("raise", "replace", "skip")
        self.unreadable = unreadable
        self._met: list[tuple[str, str]] = []  # path and reason of files that could not be read in this batch
        self.index = index
        self.reader = reader
        self.imgsz = imgsz
        self.pipeline = pipeline
        self.seed = seed
        self.rect = rect
        self.channels = channels
        self.repeat = repeat
        self.epoch, self.mixing = 0, True  # of samples that are asked for by their number alone
        self.augmentation: tuple[tuple[str, float], ...] = ()
        self._changed: tuple[tuple[tuple[str, float], ...], Pipeline] = ((), pipeline)  # the last one asked for
        self.rect_batches: RectBatches | None = None
        self._size_hw: np.ndarray | None = None  # (n, 2) height, width of the batch that each image is in
        if rect is not None:
            plan = rect_batches(index.shapes, batch=rect.batch, imgsz=imgsz, stride=rect.stride, pad=rect.pad)
            self.rect_batches = plan
            self._size_hw = np.empty((len(index), 2), np.int64)
            self._size_hw[plan.order] = plan.shapes[plan.batch]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def images_per_epoch(self) -> int:
        """Samples in a training epoch: more than there are images where some are repeated."""
        return len(self) if self.repeat is None else repeated_length(self.repeat.images)

    def set_epoch(self, epoch: int, mixing: bool = True, augmentation: tuple[tuple[str, float], ...] = ()) -> None:
        """The epoch of samples that are asked for by their number alone."""
        self.epoch, self.mixing, self.augmentation = epoch, mixing, augmentation

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        if isinstance(key, tuple):
            key = SampleKey(*key)
        else:
            key = SampleKey(self.epoch, int(key), self.mixing, augmentation=self.augmentation)
        rng, size_hw = key.generator(self.seed), self.size_hw(key.index)
        pipeline = self.pipeline if not key.augmentation else self._with(key.augmentation)
        return to_tensors(pipeline(key.index, self, rng, size_hw=size_hw, mixing=key.mixing))

    def _with(self, augmentation: tuple[tuple[str, float], ...]) -> Pipeline:
        """The pipeline with other numbers. Those of an epoch are the same for all of its samples."""
        if self._changed[0] != augmentation:
            self._changed = (augmentation, self.pipeline.changed(dict(augmentation)))
        return self._changed[1]

    def __getitems__(self, keys: Sequence[int | SampleKey]) -> list[dict[str, Any] | Failure]:
        """A batch at once, as the loader asks for it. A problem with a file comes back as a value: an exception would
        reach the user wrapped in the traceback of a worker process."""
        batch_begins()
        rows: list[dict[str, Any] | Failure] = []
        met: list[tuple[tuple[str, str], ...]] = []
        for key in keys:
            self._met = []
            try:
                rows.append(self[key])
            except SightlineError as error:
                if not (self.unreadable == "skip" and isinstance(error, ImageError)):
                    return [Failure(error)]
                met.append(((self.index.paths[key.index if isinstance(key, SampleKey) else key], str(error)),))
                continue
            met.append(tuple(self._met))
        if not rows:
            lost = tuple(pair for pairs in met for pair in pairs)
            return [Failure(ImageError(lost[-1][1]), lost)]
        if any(met):  # all rows of a batch have the same keys; what skipped images reported goes with the first
            left_out = tuple(pair for pairs in met[len(rows) :] for pair in pairs)
            for number, (row, pairs) in enumerate(zip(rows, met, strict=False)):
                row[KEY] = pairs + left_out if number == 0 else pairs  # type: ignore[index]
        return rows

    def load(self, i: int) -> Sample:
        """Image `i` at its working size (long side `imgsz`), objects in its pixels, nothing random; another one where
        that cannot be decoded and `unreadable` says "replace".

        Raises:
            ImageError: the file cannot be decoded; the message names it.
        """
        if self.unreadable != "replace":
            return self._load(i)
        problem: ImageError | None = None
        for step in range(min(MOST_IN_A_ROW, len(self))):
            try:
                return self._load((i + step) % len(self))
            except ImageError as error:
                problem = problem or error
                self._met.append((self.index.paths[(i + step) % len(self)], str(error)))
        assert problem is not None
        raise ImageError(
            f"{problem} The {min(MOST_IN_A_ROW, len(self))} images after it cannot be read either: is the disk there?"
        )

    def _load(self, i: int) -> Sample:
        with reading():
            image, original = self.reader.load(i, shared=True)  # a mosaic shows a part of four, so no copies
        height, width = image.shape[:2]
        found = self.index.labels(i)
        size = np.array([width, height], np.float32)
        labels = Labels(
            boxes=xywhn_to_xyxy(found.boxes, (height, width)).astype(np.float32),
            classes=found.classes,
            polygons=None if found.polygons is None else [polygon * size for polygon in found.polygons],
            keypoints=None if found.keypoints is None else found.keypoints * np.array([width, height, 1], np.float32),
        )
        return Sample(
            image,
            labels,
            path=self.index.paths[i],
            index=i,
            original_shape=original,
            resized_shape=(height, width),
            ratio_pad=((height / original[0], width / original[1]), (0.0, 0.0)),
        )

    def size_hw(self, i: int) -> tuple[int, int]:
        """(height, width) that image `i` ends up with."""
        if self._size_hw is None:
            return self.imgsz, self.imgsz
        height, width = self._size_hw[i].tolist()
        return height, width

    collate_fn = staticmethod(collate)
