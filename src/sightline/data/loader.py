"""Batches, prepared ahead of the network in worker processes, or between its steps in this one."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from sightline.data.collate import Failure
from sightline.data.dataset import DetectionDataset, Rect
from sightline.data.formats.yolo import list_images
from sightline.data.image_cache import GIB, available_memory
from sightline.data.images import ImageError, ImageReader
from sightline.data.index import LabelIndex, build_index
from sightline.data.repeat import RepeatFactors, repeat_factors
from sightline.data.sampler import EpochBatches, SampleKey
from sightline.data.transforms.guests import EVEN, Guests
from sightline.data.transforms.pipeline import build_pipeline
from sightline.data.unreadable import Unreadable
from sightline.data.work_times import WorkTimes, collate_timed
from sightline.errors import DataError, SettingValueError
from sightline.log import LOGGER

if TYPE_CHECKING:
    from sightline.config.settings import Settings
    from sightline.data.spec import DatasetSpec

RESTARTS_IN_A_ROW = 3  # of the workers at one batch; after that it is the batch that kills them
PREFETCH = 2  # batches that each worker keeps ready
WORKER_SECONDS = 20  # that a worker goes on after SIGTERM
RECENT_BYTES = 8 * GIB  # of decoded images kept without being asked, on all workers together


class Loader:
    """An iterable over the batches of an epoch; what each batch holds does not depend on the workers.

    Attributes:
        workers: worker processes; 0 prepares batches in this process.
        unreadable: images that could not be read and were replaced or left out, since somebody took the list.
        work_times: seconds of reading and augmenting, on all workers together, since somebody took them.
        restarts: how often the workers had to be started anew because one of them died, since `take_restarts`.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        sampler: EpochBatches,
        *,
        workers: int = 0,
        pin_memory: bool = False,
        start_method: str | None = None,
    ) -> None:
        self.dataset = dataset
        self.sampler = sampler
        self.batch_size = sampler.batch_size
        self.workers = workers
        self.pin_memory = pin_memory
        self.start_method = start_method
        self.unreadable = Unreadable()
        self.work_times = WorkTimes()
        self.restarts = 0
        self._processes = self._start_processes(sampler, persistent=True) if workers else None
        self._settled = False  # whether this process prepares batches of this loader

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(
        self, epoch: int, mixing: bool = True, start: int = 0, augmentation: tuple[tuple[str, float], ...] = ()
    ) -> None:
        """What the next iteration brings. `mixing` False ends mosaic, MixUp, CutMix and copy-paste; `augmentation`
        changes numbers of the augmentation; workers stay. `start` batches are passed over without preparing them: a
        resumed run has had them."""
        self.sampler.set_epoch(epoch, mixing, start, augmentation)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Batches of the epoch, see `collate`.

        Raises:
            ImageError: a file cannot be decoded any more, and the data set neither replaces nor skips it.
            DataError: worker processes die again and again.
        """
        batches: Iterator[Any]
        if self._processes is not None:
            batches = self._from_workers()
        else:
            self._settle()
            batches = map(self._prepare, self.sampler)
        for batch in batches:
            if isinstance(batch, Failure):
                if getattr(self.dataset, "unreadable", "raise") == "skip" and isinstance(batch.error, ImageError):
                    for path, reason in batch.unreadable:
                        self.unreadable.add(path, reason)
                    continue
                raise batch.error
            self.unreadable.take_from(batch)
            self.work_times.take_from(batch)
            yield batch

    def _from_workers(self) -> Iterator[Any]:
        """The batches of the epoch, whatever happens to the processes that make them: a batch is a function of its
        keys, so new workers deliver what the dead ones would have."""
        assert self._processes is not None
        source, delivered, in_a_row = self._processes, 0, 0
        batches: Iterator[Any] | None = None
        try:
            while True:
                try:
                    # Persistent workers are asked here whether they are ready, so one that died since the last epoch
                    # (while the network was validated, say) is noticed here, too.
                    batches = batches or _started(source)
                    batch = next(batches)
                except StopIteration:
                    return
                except RuntimeError as error:
                    if not _says_dead_worker(error):
                        raise
                    in_a_row += 1
                    _end_workers(source)
                    if in_a_row > RESTARTS_IN_A_ROW:
                        raise DataError(
                            f"Worker processes of the loader died {in_a_row} times at one batch ({_first(error)}). If "
                            f"the machine ran out of memory, use fewer than workers={self.workers}, or cache=disk."
                        ) from error
                    self.restarts += 1
                    LOGGER.warning(
                        f"A worker process of the loader died ({_first(error)}); new ones go on with batch "
                        f"{self.sampler.start + delivered + 1}. If this happens often, the machine may lack memory: "
                        "use fewer workers."
                    )
                    rest = list(self.sampler)[delivered:]
                    source, batches = self._start_processes(rest, persistent=False), None
                    continue
                delivered, in_a_row = delivered + 1, 0
                yield batch
        finally:
            if source is not self._processes:
                _end_workers(source)

    def take_restarts(self) -> int:
        """`restarts`, which begins anew."""
        count, self.restarts = self.restarts, 0
        return count

    def close(self) -> None:
        """End the workers, and put back OpenCV's threads. Iterating again starts new ones."""
        if self._processes is not None:
            _end_workers(self._processes)
        if self._settled:
            ONE_OPENCV_THREAD.release()
            self._settled = False

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # the interpreter may be going down
            self.close()

    def _settle(self) -> None:
        """Once, before the first batch that this process prepares itself."""
        if not self._settled:
            ONE_OPENCV_THREAD.hold()
            keep_freed_memory()
            self._settled = True

    def _prepare(self, keys: list[SampleKey]) -> dict[str, Any] | Failure:
        batch = collate_timed(self.dataset.collate_fn, self.dataset.__getitems__(keys))
        if self.pin_memory and not isinstance(batch, Failure):
            batch = {name: value.pin_memory() if torch.is_tensor(value) else value for name, value in batch.items()}
        return batch

    def _start_processes(self, batches: Iterable[list[SampleKey]], *, persistent: bool) -> DataLoader[Any]:
        return DataLoader(
            self.dataset,
            batch_sampler=batches,  # type: ignore[arg-type]
            num_workers=self.workers,
            collate_fn=partial(collate_timed, self.dataset.collate_fn),
            pin_memory=self.pin_memory,
            worker_init_fn=_quiet_worker,
            persistent_workers=persistent,
            prefetch_factor=PREFETCH,
            multiprocessing_context=self.start_method,
            # torch draws a number for its workers from it. From the generator of the process it would change what a
            # network draws later, so that a run would depend on whether its workers were started anew.
            generator=torch.Generator(),
        )


def _started(processes: DataLoader[Any]) -> Iterator[Any]:
    """An iterator over what the workers make; starts them.

    torch has a signal handler that raises when a worker dies, wherever the main thread is at that moment: within the
    forward pass, for instance, where nobody could go on. Without it a dead worker is noticed when its batch is awaited.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return iter(processes)
    before = signal.getsignal(signal.SIGCHLD)
    try:
        return iter(processes)
    finally:
        if before is not None:  # else it was not set from Python, and cannot be put back from there
            signal.signal(signal.SIGCHLD, before)


def _end_workers(processes: DataLoader[Any]) -> None:
    iterator = getattr(processes, "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()  # DataLoader itself waits for the garbage collector
    processes._iterator = None


def _says_dead_worker(error: RuntimeError) -> bool:
    return "DataLoader worker" in str(error) and (
        "exited unexpectedly" in str(error) or "killed by signal" in str(error)
    )


def _first(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(". ")


class OpenCVThreads:
    """OpenCV with one thread while any loader prepares batches in this process: more would take cores from the network
    for a few milliseconds' work. The number belongs to the process, so the loaders of a run share this."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._before = 0  # the number to put back

    def hold(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._before = cv2.getNumThreads()
                cv2.setNumThreads(1)
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                cv2.setNumThreads(self._before)


ONE_OPENCV_THREAD = OpenCVThreads()


def _quiet_worker(_: int) -> None:
    """One thread a worker: there are as many workers as the machine has room for."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_freed_memory()
    _outlast_signals()


def _outlast_signals() -> None:
    """Ctrl-C and schedulers signal all processes at once, but the main one still needs its batch: it finishes the step
    and then ends its workers. One that it ends by a signal, or that it forgets, is gone after a while."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(WORKER_SECONDS))


def keep_freed_memory() -> None:
    """Make glibc's allocator keep image-sized blocks instead of giving each back to the system.

    Else every picture costs hundreds of page faults, a third of the time of an augmented sample. The allocator raises
    its threshold for that to the largest block ever freed (up to 32 MB), so freeing one is enough. Elsewhere a no-op.
    """
    block = np.empty(31 << 20, np.uint8)
    del block


def check_flips(settings: Settings, spec: DatasetSpec) -> None:
    """In a mirrored image left and right keypoints change names; without their order there can be no mirrored ones.

    Raises:
        SettingValueError: the user asks for some.
    """
    flips = [name for name in ("fliplr", "flipud") if getattr(settings, name) > 0]
    if spec.flip_idx is not None or not flips:
        return
    reason = f"{spec.source} has keypoints, but no `flip_idx`, which says what each is called in a mirrored image"
    asked = [name for name in flips if settings.is_user_set(name)]
    if asked:
        raise SettingValueError(
            f"{asked[0]}={getattr(settings, asked[0]):g}: {reason}. Add it, for example flip_idx: [0, 2, 1] if points "
            f"1 and 2 are left and right; [0, 1, 2, …] if no point has a side. Or leave {asked[0]} out."
        )
    for name in flips:
        LOGGER.warning(f"{name}=0: {reason}.")
        settings.assign(name, 0.0, origin="auto")


def build_dataset(
    settings: Settings,
    spec: DatasetSpec,
    images: str | Path | Sequence[str | Path] | None = None,
    *,
    mode: str,
    batch_size: int,
    stride: int = 32,
    task: str = "detect",
    rect: bool | None = None,
    stretch: bool = False,
) -> DetectionDataset:
    """The data set that the settings ask for. The edge where settings are read; nothing below knows them.

    Args:
        images: name of a split, or folders and lists of images; None is `train` or, in mode "val", `settings.split`.
        mode: "train" augments; "val" does not.
        batch_size: per rank, for rectangular batches.
        stride: of the network, pixels.
        rect: rectangular batches; None takes them in mode "val" unless the user said rect=False there, and in
            mode "train" if the user asked for them.
        stretch: images fill a square, whatever their shape; then there are no rectangular batches.

    Raises:
        DataError: no usable image, no labels to train on. MissingFileError: no such split or folder.
        SettingValueError: `classes` has one that the data set has not; `repeat_factor` or `stretch` meets rectangular
            batches.
    """
    train = mode == "train"
    if stretch:
        refuse_rect(settings)
        rect = False
    imgsz = settings.imgsz if isinstance(settings.imgsz, int) else max(settings.imgsz)
    index = _index_of(settings, spec, images, train=train, task=task)
    if rect is None:
        rect = settings.rect if train else settings.rect or settings.mode != "val" or not settings.is_user_set("rect")
    if train:
        _say_what_copy_paste_does(settings, index)
        if "keypoints" in index.arrays:
            check_flips(settings, spec)
    repeat = _repeats(settings, spec, index, rect=rect) if train else None
    guests = EVEN if repeat is None else Guests.weighted(repeat.images)
    pipeline = build_pipeline(settings, imgsz, mode, mixing=not rect, flip_idx=spec.flip_idx, guests=guests)
    return DetectionDataset(
        index,
        _reader(settings, index, imgsz, spec.channels, several_a_sample=train and not rect, stretch=stretch),
        imgsz=imgsz,
        pipeline=pipeline,
        seed=settings.seed,
        rect=Rect(pad=0.0 if train else 0.5, stride=stride, batch=min(batch_size, len(index))) if rect else None,
        channels=spec.channels,
        repeat=repeat,
        # A run goes on; a validation by itself should not give numbers for other images than it was asked for.
        unreadable="replace" if train else "skip" if settings.mode == "train" else "raise",
    )


def refuse_rect(settings: Settings) -> None:
    """
    Raises:
        SettingValueError: the user wants batches of another shape than a square from images that are stretched to one.
    """
    if settings.rect and settings.is_user_set("rect"):
        raise SettingValueError("rect=True: images for RT-DETR are stretched to a square. Leave rect out.")


def _index_of(
    settings: Settings,
    spec: DatasetSpec,
    images: str | Path | Sequence[str | Path] | None,
    *,
    train: bool,
    task: str,
) -> LabelIndex:
    """The images and labels that the settings choose; the arguments are those of `build_dataset`."""
    name = "train" if train else settings.split
    if images is None or images in spec.splits:
        name = str(images or name)
        paths = spec.images(name, fraction=_fraction(settings.fraction, name))
    else:
        paths = list_images(images, root=spec.root)
    _check_classes(settings, spec)
    index = build_index(
        paths,
        spec,
        task=task,
        single_cls=settings.single_cls,
        classes=settings.classes,
        require_labels=train,
        name=name,
    )
    if train and settings.classes is not None and not len(index.classes):
        raise DataError(
            f"{name}: no object is of classes={settings.classes}, so there is nothing to learn. "
            f"{spec.source} names {_named(spec)}."
        )
    return index


def _repeats(settings: Settings, spec: DatasetSpec, index: LabelIndex, *, rect: bool) -> RepeatFactors | None:
    """What `repeat_factor` asks for in training."""
    if settings.repeat_factor == 0:
        return None
    if rect:
        raise SettingValueError(
            f"repeat_factor={settings.repeat_factor:g} repeats single images, but rectangular batches are fixed: "
            "leave rect=True or repeat_factor out."
        )
    return repeat_factors(index, settings.repeat_factor, 1 if settings.single_cls else spec.nc)


def _check_classes(settings: Settings, spec: DatasetSpec) -> None:
    unknown = [number for number in settings.classes or () if number not in spec.names]
    if unknown and not settings.single_cls:  # there the names are replaced by one
        raise SettingValueError(
            f"classes={settings.classes}: there is no class {unknown[0]}. {spec.source} names {_named(spec)}."
        )


def _named(spec: DatasetSpec) -> str:
    """`3 classes (0 RBC, 1 WBC, 2 Platelets)`, at most ten of the names."""
    names = [f"{number} {name}" for number, name in list(spec.names.items())[:10]]
    return f"{spec.nc} classes ({', '.join(names)}{', …' if spec.nc > len(names) else ''})"


def _fraction(fraction: float | list[float], split: str) -> float:
    """A list gives train, val and test; a single number is about training only."""
    if not isinstance(fraction, list):
        return fraction if split == "train" else 1.0
    place = ("train", "val", "test").index(split) if split in ("train", "val", "test") else len(fraction)
    return fraction[place] if place < len(fraction) else 1.0


def _reader(
    settings: Settings, index: LabelIndex, imgsz: int, channels: int, *, several_a_sample: bool, stretch: bool
) -> ImageReader:
    budget = None if settings.cache_budget_gb is None else int(settings.cache_budget_gb * GIB)
    cache, quiet = settings.cache, False
    if not cache and several_a_sample and _ever(settings, "mosaic"):
        # A mosaic needs four or nine images; decoding each anew every time would be most of the work. So what has been
        # decoded stays in memory even without cache=ram, within a bound that hurts nobody.
        cache, quiet = "ram", True
        budget = min(budget or RECENT_BYTES, RECENT_BYTES, available_memory() // 4)
    reader = ImageReader(
        index.paths,
        imgsz,
        shapes=index.shapes,
        cache=cache,
        budget_bytes=budget,
        channels=channels,
        stretch=stretch,
        quiet=quiet,
    )
    if quiet and reader.cached < len(index):
        LOGGER.info(
            f"Memory for {reader.cached} of {len(index)} decoded images; for a mosaic the others are decoded anew each "
            "time. cache=ram or cache=disk makes room for more."
        )
    return reader


def _say_what_copy_paste_does(settings: Settings, index: LabelIndex) -> None:
    copy_paste = _ever(settings, "copy_paste")
    if not copy_paste or settings.rect:
        return
    outlined, total = index.polygon_count, len(index.classes)
    if not outlined:
        LOGGER.info(f"copy_paste={copy_paste:g}: the labels have no outlines, so the pixels of whole boxes are pasted.")
    elif outlined < total:
        LOGGER.info(
            f"copy_paste={copy_paste:g}: {outlined} objects have outlines and are cut out along them; of the "
            f"{total - outlined} others the pixels of whole boxes are pasted."
        )


def _ever(settings: Settings, name: str) -> float:
    """The largest value of the run, over all stages of `augment_schedule`."""
    return max(getattr(settings, name), *(stage.get(name, 0) for stage in settings.augment_schedule or []), 0)


def build_loader(
    dataset: DetectionDataset,
    batch_size: int,
    *,
    shuffle: bool,
    workers: int,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    drop_last: bool = False,
    accelerator: bool | None = None,
    start_method: str | None = None,
) -> Loader:
    """Batches of a data set.

    Args:
        batch_size: images per batch of this rank; more than there are images means all of them.
        shuffle: for training; False keeps the order and, on several ranks, repeats no image.
        workers: upper limit; 0 prepares batches in this process when they are asked for. With an accelerator these are
            processes, no more than cores or batches; on a CPU, whose cores the network needs itself, there are none.
        pin_memory: copy batches to memory from which an accelerator reads faster.
        accelerator: whether the network runs elsewhere than on the CPU; None means: if memory is to be pinned.
        start_method: of the processes: fork, spawn, forkserver; None is the system's.
    """
    groups = None
    if dataset.rect_batches is not None:
        order, number, shapes = dataset.rect_batches
        groups = [order[number == b].tolist() for b in range(len(shapes))]
    repeat = getattr(dataset, "repeat", None) if shuffle else None  # a user's own data set need not know it
    sampler = EpochBatches(
        len(dataset),
        max(1, min(batch_size, len(dataset) if repeat is None else dataset.images_per_epoch)),
        shuffle=shuffle,
        seed=seed,
        rank=rank,
        world_size=world_size,
        groups=groups,
        drop_last=drop_last,
        repeat_factors=None if repeat is None else repeat.images,
    )
    accelerator = pin_memory if accelerator is None else accelerator
    processes = choose_workers(workers, batches=len(sampler), accelerator=accelerator)
    return Loader(dataset, sampler, workers=processes, pin_memory=pin_memory, start_method=start_method)


def choose_workers(
    workers: int, *, batches: int, accelerator: bool, cores: int | None = None, devices: int | None = None
) -> int:
    """How many processes prepare batches.

    Measured (docs/decisions/0061): on a CPU the network needs every core, and whoever prepares batches beside it holds
    its threads up for longer than the batches take.
    """
    if workers == 0 or batches <= 1 or not accelerator:
        return 0
    cores = cores or usable_cores()
    devices = max(torch.cuda.device_count(), 1) if devices is None else max(devices, 1)
    return max(1, min(workers, cores // devices, batches))


def usable_cores() -> int:
    """Cores that this process may use, which in containers are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
