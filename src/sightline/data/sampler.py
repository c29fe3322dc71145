"""Which images make up the batches of an epoch: a function of (seed, epoch), for any number of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from sightline.data.repeat import repeat_counts, repeated_length


class SampleKey(NamedTuple):
    """What a data set is asked for.

    mixing: whether mosaic, MixUp, CutMix and copy-paste are on.
    repetition: 0 when the image comes for the first time in this epoch, 1 for the second, …
    augmentation: numbers of the augmentation in this epoch by the names of their settings; empty for those that the
        data set was built with. They are here because the key is what reaches a worker process.
    """

    epoch: int
    index: int
    mixing: bool = True
    repetition: int = 0
    augmentation: tuple[tuple[str, float], ...] = ()

    def generator(self, seed: int) -> np.random.Generator:
        """The chance in this sample. An image that comes again looks different."""
        again = [self.repetition, 1] if self.repetition else []  # trailing zeros would not count in a seed sequence
        return np.random.default_rng([seed, self.epoch, self.index, *again])


def epoch_order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """(count,) a permutation."""
    # The last word keeps this stream apart from that of sample 0: trailing zeros do not count in a seed sequence.
    return np.random.default_rng([seed, epoch, 0, 1]).permutation(count)


class EpochBatches(Sampler[list[SampleKey]]):
    """Batches of sample keys.

    Training (`shuffle`): every rank gets the same number of batches, and batch b of all ranks together holds the same
    images for any number of ranks of batch_size images in all. Only where the last batch has fewer images than there
    are ranks, the first ones of the epoch come a second time. Without `shuffle`, each rank gets a stretch of whole
    batches and no image comes twice.

    Args:
        count: images of the data set.
        batch_size: per rank.
        groups: fixed batches, each a list of indices (rectangular batches); then only their order is shuffled.
        drop_last: leave out a last batch that is not full, unless it is the only one.
        repeat_factors: (count,) how often each image comes in a shuffled epoch on average, see `repeat.py`. None: once.

    Attributes:
        count: images in an epoch; more than there are where some are repeated.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        groups: Sequence[Sequence[int]] | None = None,
        drop_last: bool = False,
        repeat_factors: np.ndarray | None = None,
    ) -> None:
        assert repeat_factors is None or (shuffle and groups is None and len(repeat_factors) == count)
        self.repeat_factors = repeat_factors
        self.count = count if repeat_factors is None else repeated_length(repeat_factors)
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.groups = None if groups is None else [list(map(int, group)) for group in groups]
        self.drop_last = drop_last
        self.epoch = 0
        self.mixing = True
        self.start = 0
        self.augmentation: tuple[tuple[str, float], ...] = ()

    def set_epoch(
        self, epoch: int, mixing: bool = True, start: int = 0, augmentation: tuple[tuple[str, float], ...] = ()
    ) -> None:
        """What the next iteration brings; `start` leaves out that many batches at its beginning."""
        self.epoch, self.mixing, self.start, self.augmentation = epoch, mixing, start, augmentation

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return iter(self.keys(self.epoch)[self.start :])

    def __len__(self) -> int:
        if self.groups is not None:
            return len(self._share(len(self.groups)))
        if not self.shuffle:
            return len(self._share(-(-self.count // self.batch_size)))
        mine = -(-self.count // self.world_size)
        full = mine // self.batch_size
        return max(full, 1) if self.drop_last and mine else -(-mine // self.batch_size)

    def batches(self, epoch: int) -> list[list[int]]:
        """Image numbers of this rank's batches in an epoch."""
        return [[key.index for key in batch] for batch in self.keys(epoch)]

    def keys(self, epoch: int) -> list[list[SampleKey]]:
        """This rank's batches in an epoch."""
        places = self._places(epoch)
        if self.repeat_factors is None:  # a place is an image
            return [[self._key(epoch, place) for place in batch] for batch in places]
        counts = repeat_counts(self.repeat_factors, seed=self.seed, epoch=epoch)
        image = np.repeat(np.arange(len(counts)), counts)  # (count,) the image at each place
        repetition = np.arange(self.count) - np.repeat(np.cumsum(counts) - counts, counts)
        return [[self._key(epoch, int(image[p]), int(repetition[p])) for p in batch] for batch in places]

    def _key(self, epoch: int, index: int, repetition: int = 0) -> SampleKey:
        return SampleKey(epoch, index, self.mixing, repetition, self.augmentation)

    def _places(self, epoch: int) -> list[list[int]]:
        """This rank's batches, as numbers of places: 0 to `count`, the copies of an image side by side."""
        if self.groups is not None:
            order = epoch_order(len(self.groups), seed=self.seed, epoch=epoch) if self.shuffle else None
            return [self.groups[g if order is None else order[g]] for g in self._share(len(self.groups))]
        if not self.shuffle:
            size = self.batch_size
            stretches = self._share(-(-self.count // size))
            return [list(range(b * size, min((b + 1) * size, self.count))) for b in stretches]
        order = epoch_order(self.count, seed=self.seed, epoch=epoch)
        if -(-self.count // self.world_size) % self.batch_size == 1 or self.batch_size == 1:
            order = _padded(order, self.world_size)  # else some ranks would have no last batch
        mine = order[self.rank :: self.world_size].tolist()
        return [mine[b * self.batch_size : (b + 1) * self.batch_size] for b in range(len(self))]

    def _share(self, batches: int) -> Sequence[int]:
        """Which of the numbered batches this rank takes."""
        if self.shuffle:  # equal numbers for all ranks, or they would wait for each other for ever
            return _padded(np.arange(batches), self.world_size)[self.rank :: self.world_size].tolist()
        each, more = divmod(batches, self.world_size)
        start = self.rank * each + min(self.rank, more)
        return range(start, start + each + (self.rank < more))


def _padded(order: np.ndarray, multiple: int) -> np.ndarray:
    """With its beginning repeated up to a multiple."""
    return np.resize(order, -(-len(order) // multiple) * multiple) if len(order) else order
