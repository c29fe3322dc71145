"""TensorBoard: event files in the run folder itself, so that `tensorboard --logdir runs/detect` shows all runs."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from sightline.callbacks.loggers.base import BEST, Picture, PrecisionRecall, Run, Tracker

# The ending tells ours from those that a user's own writer puts into the same folder.
ENDING = ".sightline"
EVENT_FILES = f"events.out.tfevents.*{ENDING}"

# Which of the results stand in the table of the HPARAMS page.
HPARAM_METRICS = ("metrics/mAP50-95(B)", "metrics/mAP50(B)", "metrics/precision(B)", "metrics/recall(B)")
THRESHOLDS = 127  # of precision-recall curves, which is TensorBoard's own number


class TensorBoardTracker(Tracker):
    """Scalars under the names of results.csv, pictures, precision-recall curves, settings (HPARAMS).

    A run that goes on tells TensorBoard so, which then forgets points from the first epoch on that comes again.
    """

    title = "TensorBoard"

    def __init__(self) -> None:
        super().__init__()
        self.writer: Any = None  # torch.utils.tensorboard.SummaryWriter
        self.session_end: Any = None  # of the HPARAMS page

    def where(self, run: Run) -> str:
        return f"tensorboard --logdir {run.folder.parent}"

    def open(self, run: Run) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(
            str(run.folder), filename_suffix=ENDING, purge_step=run.first_step if run.resumed else None
        )
        self._write_settings(run)
        self.writer.flush()

    def _write_settings(self, run: Run) -> None:
        from torch.utils.tensorboard.summary import hparams

        values = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in run.settings.items()
            if value is not None
        }
        results = dict.fromkeys((f"{BEST}/{name}" for name in HPARAM_METRICS), 0.0)
        experiment, start, self.session_end = hparams(values, results)
        self.writer.file_writer.add_summary(experiment)
        self.writer.file_writer.add_summary(start)

    def write_numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def write_result(self, step: int, numbers: Mapping[str, float]) -> None:
        self.write_numbers(step, numbers)

    def write_pictures(self, step: int, pictures: list[Picture]) -> None:
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        for picture in pictures:
            # As they are in the file; `add_image` would make a PNG of every JPEG.
            width, height = Image.open(io.BytesIO(picture.content)).size
            image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=picture.content)
            value = Summary.Value(tag=f"pictures/{picture.name}", image=image)
            self.writer.file_writer.add_summary(Summary(value=[value]), step)
        self.writer.flush()

    def write_curves(self, step: int, curves: list[PrecisionRecall]) -> None:
        for curve in curves:
            places = np.linspace(0, len(curve.confidences) - 1, THRESHOLDS).round().astype(int)
            precision, recall = curve.precision[places], curve.recall[places]
            # What TensorBoard shows beside the curve; boxes that are rightly not there cannot be counted.
            hits = recall * curve.objects
            invented = np.where(precision > 0, hits / np.maximum(precision, 1e-12) - hits, 0.0)
            missed = curve.objects - hits
            self.writer.add_pr_curve_raw(
                f"precision-recall/{curve.name}", hits, invented, np.zeros_like(hits), missed, precision, recall, step,
                num_thresholds=THRESHOLDS,
            )  # fmt: skip
        self.writer.flush()

    def close(self, *, finished: bool) -> None:
        if self.writer is None:
            return
        if finished and self.session_end is not None:
            self.writer.file_writer.add_summary(self.session_end)
        self.writer.close()
