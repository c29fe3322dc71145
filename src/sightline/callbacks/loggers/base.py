"""What every tracker is told of a run, and how: in a thread, in plain values, and so that it can never end the run.

The moments of the run gather what is there already (nothing waits for the device) and hand it to a thread, so a
tracker may be slow, hang or raise: the first failure is said in a line, and the run goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.callbacks.base import Callback
from sightline.callbacks.loggers.worker import Worker
from sightline.log import LOGGER

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

BEST = "best"  # what names begin with that are about best.pt, so that they do not mix with those of the last epoch
LAST_SECONDS = 60.0  # that the end of a run waits for a tracker; an upload that takes longer is given up
SECONDS_AFTER_A_SIGNAL = 10.0  # or an error; schedulers kill 30 s after their SIGTERM, as a rule
PICTURES = frozenset({".jpg", ".jpeg", ".png"})
MOST_CLASSES = 50  # with a precision-recall curve of their own; beyond it nobody finds one in the list


@dataclass(frozen=True)
class Run:
    """What a tracker needs to know when it begins."""

    folder: Path  # the run folder, absolute
    project: str  # as the user gave it; "" if he did not
    settings: dict[str, Any]  # plain values
    first_step: int  # the number of the first epoch that will be written, counted from 1
    resumed: bool  # goes on with a run that this tracker may know


@dataclass(frozen=True)
class Picture:
    """A file of the run folder, as it was when the epoch ended."""

    name: str  # of the file, without its ending; "best/…" of the final validation
    content: bytes  # JPEG or PNG


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall over confidence, at IoU 0.5 (or OKS 0.5)."""

    name: str  # "Box"; "best/Box" and, for a class, "best/Box/cell" of the final validation
    confidences: np.ndarray  # (N,) from 0 to 1, evenly spaced
    precision: np.ndarray  # (N,)
    recall: np.ndarray  # (N,)
    objects: int  # labelled


class Tracker(Callback):
    """Fill in `open` and what the tracker can take; every one of them runs in a thread of its own, on rank 0 alone.

    Exceptions are caught. When `open` has failed, nothing else is called but `close`.

    Attributes:
        title: how messages call it.
    """

    title = "tracker"

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.is_open = False  # read and written in the thread
        self.has_failed = False
        self.in_epoch = False
        self.finished = False
        self.seen: dict[Path, int] = {}  # pictures by the time of their writing, in ns
        self.record: Callable[..., None] | None = None  # into the run's events

    # ------------------------------------------------------------------ what a tracker fills in

    def where(self, run: Run) -> str:
        """Where the user finds the run, for a line at the start; "" for no line."""
        return ""

    def open(self, run: Run) -> None:
        """Begin, or go on with the run that `state_dict` names."""

    def write_numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """The row of results.csv of an epoch.

        Args:
            step: the number of the epoch, counted from 1 as in results.csv.
            numbers: by name of column; values that are not finite are left out.
        """

    def write_pictures(self, step: int, pictures: list[Picture]) -> None:
        """Pictures of the run folder that are new."""

    def write_curves(self, step: int, curves: list[PrecisionRecall]) -> None:
        """Of a validation: means over the classes; of the final one, also the classes."""

    def write_result(self, step: int, numbers: Mapping[str, float]) -> None:
        """The metrics of best.pt, after the last epoch.

        Args:
            step: the number of the last epoch.
            numbers: by name, such as "best/metrics/mAP50(B)".
        """

    def close(self, *, finished: bool) -> None:
        """The run is over: as planned, or by an error or a signal."""

    # ------------------------------------------------------------------ moments

    def on_pretrain_routine_start(self, trainer: BaseTrainer) -> None:
        # Pictures from here on are of this run; others in the folder are yesterday's.
        self._gather(lambda: self.seen.update(_times(trainer)))

    def on_train_start(self, trainer: BaseTrainer) -> None:
        if trainer.rank or trainer.rehearsal is not None:  # a dry run leaves nothing behind
            return
        self.record = trainer.events.add
        self.worker = Worker(self.title, self._fail)
        self._gather(lambda: self._start(trainer))

    def on_train_epoch_start(self, trainer: BaseTrainer) -> None:
        self.in_epoch = True

    def on_fit_epoch_end(self, trainer: BaseTrainer) -> None:
        if self.worker is not None:
            self._gather(lambda: self._tell_of_epoch(trainer) if self.in_epoch else self._tell_of_result(trainer))
        self.in_epoch = False

    def on_train_end(self, trainer: BaseTrainer) -> None:
        self.finished = True
        if self.worker is not None:
            self._gather(lambda: self._tell_pictures(trainer, trainer.epoch + 1))

    def teardown(self, trainer: BaseTrainer) -> None:
        worker, self.worker = self.worker, None
        if worker is None:
            return
        finished = self.finished
        worker.put(lambda: self.close(finished=finished))
        seconds = LAST_SECONDS if finished else SECONDS_AFTER_A_SIGNAL
        if not worker.finish(seconds) and not self.has_failed:
            self._say(f"has not taken everything within {seconds:.0f} s, and the run ends without the rest")

    # ------------------------------------------------------------------ what is told

    def _start(self, trainer: BaseTrainer) -> None:
        run = Run(
            folder=trainer.save_dir.resolve(),
            project=str(trainer.args.project or ""),
            settings=trainer.args.to_dict(),
            first_step=trainer.start_epoch + 1,
            resumed=bool(trainer.args.resume),
        )
        place = self.where(run)
        if place:
            LOGGER.info(f"{self.title}: {place}")
        self._put(self._open, run)

    def _open(self, run: Run) -> None:
        self.open(run)
        self.is_open = True

    def _tell_of_epoch(self, trainer: BaseTrainer) -> None:
        step = trainer.epoch + 1
        self._put(self._when_open, self.write_numbers, step, last_row(trainer.history))
        self._tell_pictures(trainer, step)
        if trainer.validated:
            self._tell_curves(trainer, step)

    def _tell_of_result(self, trainer: BaseTrainer) -> None:
        """`final_eval` counts an epoch that does not exist, so that it comes after the last."""
        step = trainer.epoch
        # The final validation computes no losses; those in `metrics` are of the last epoch.
        result = {f"{BEST}/{name}": value for name, value in trainer.metrics.items() if not name.startswith("val/")}
        self._put(self._when_open, self.write_result, step, finite(result))
        self._tell_pictures(trainer, step, of=f"{BEST}/")
        self._tell_curves(trainer, step, of=f"{BEST}/", by_class=True)

    def _tell_pictures(self, trainer: BaseTrainer, step: int, *, of: str = "") -> None:
        now = _times(trainer)
        new = [file for file, time in now.items() if self.seen.get(file) != time]
        self.seen.update(now)
        if new:
            # Read now, because the next validation overwrites them.
            pictures = [Picture(of + file.stem, file.read_bytes()) for file in new]
            self._put(self._when_open, self.write_pictures, step, pictures)

    def _tell_curves(self, trainer: BaseTrainer, step: int, *, of: str = "", by_class: bool = False) -> None:
        curves = list(curves_of(trainer.validator, of=of, by_class=by_class))
        if curves:
            self._put(self._when_open, self.write_curves, step, curves)

    # ------------------------------------------------------------------ nothing gets out

    def _gather(self, action: Callable[[], None]) -> None:
        """In the thread that trains: a trainer or validator of a user's own may lack what is asked for."""
        try:
            action()
        except Exception as error:
            self._fail(error)

    def _put(self, function: Callable[..., None], *arguments: Any) -> None:
        if self.worker is not None:
            self.worker.put(lambda: function(*arguments))

    def _when_open(self, function: Callable[..., None], *arguments: Any) -> None:
        if self.is_open:
            function(*arguments)

    def _fail(self, error: BaseException) -> None:
        if self.has_failed:
            return
        self.has_failed = True
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        after = "what it could not take is missing there" if self.is_open else "nothing is written there"
        self._say(f"{reason}; the run goes on, {after}")

    def _say(self, text: str) -> None:
        LOGGER.warning(f"{self.title}: {text}")
        if self.record is not None:
            self.record("tracker", tracker=self.title, text=text)


def last_row(history: Mapping[str, list[float]]) -> dict[str, float]:
    """The newest value of every column that has one for the newest epoch."""
    length = max((len(values) for values in history.values()), default=0)
    return finite({name: values[-1] for name, values in history.items() if len(values) == length})


def finite(numbers: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items() if value is not None and math.isfinite(value)}


def curves_of(validator: Any, *, of: str = "", by_class: bool = False) -> Iterable[PrecisionRecall]:
    """Those that a validator of ours has after a validation; nothing from one that keeps no curves."""
    metrics = getattr(validator, "metrics", None)
    for kind, metric in (getattr(metrics, "kinds", None) or {}).items():
        precision, recall = metric.p_curve, metric.r_curve  # (C', N), C' classes with labels
        if not len(precision):
            continue
        counts = metrics.nt_per_class[metric.ap_class_index]
        yield PrecisionRecall(of + kind, metric.px, precision.mean(axis=0), recall.mean(axis=0), int(counts.sum()))
        for row, number in enumerate(metric.ap_class_index[: MOST_CLASSES if by_class else 0]):
            name = f"{of}{kind}/{metrics.names[int(number)]}"
            yield PrecisionRecall(name, metric.px, precision[row].copy(), recall[row].copy(), int(counts[row]))


def _times(trainer: BaseTrainer) -> dict[Path, int]:
    """The pictures of the run with the time of their writing: those in its folder, and what `on_plot` was told of."""
    files = {file for file in trainer.save_dir.glob("*.*") if file.suffix.lower() in PICTURES}
    files |= {Path(name) for name in trainer.plots if Path(name).suffix.lower() in PICTURES and Path(name).is_file()}
    return {file: file.stat().st_mtime_ns for file in sorted(files)}
