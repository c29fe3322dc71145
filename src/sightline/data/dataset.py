"""Images with labels, one at a time, augmented or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset

from sightline.data.collate import Failure, collate
from sightline.data.repeat import RepeatFactors, repeated_length
from sightline.data.sampler import SampleKey
from sightline.data.transforms.format import to_tensors
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
    ) -> None:
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
        try:
            return [self[key] for key in keys]
        except SightlineError as error:
            return [Failure(error)]

    def load(self, i: int) -> Sample:
        """Image `i` at its working size (long side `imgsz`), objects in its pixels, nothing random.

        Raises:
            ImageError: the file cannot be decoded; the message names it.
        """
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
