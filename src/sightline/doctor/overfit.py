"""`sightline doctor overfit model=… data=…`: can one batch be learnt by heart? If not, something is broken.

The batch is trained on without augmentation and validated on itself. A sound combination of network, loss and labels
reaches an almost perfect score on it; labels that are shifted, a loss without gradient or a frozen head do not. Where
the network has keypoints, they are judged beside the boxes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightline.config.load import RECIPES
from sightline.config.settings import AUTO, DEFAULT, Settings
from sightline.data.index import build_index
from sightline.data.spec import DatasetSpec, load_dataset_spec
from sightline.doctor.task import settle_task
from sightline.errors import DataError, UsageError
from sightline.tasks import get_task

IMAGES, STEPS, VALIDATIONS = 4, 200, 8
ENOUGH = 100  # steps in which a sound set-up has learnt at least something
LEARNT = 0.6  # mAP50 on the batch itself; sound set-ups reach 0.9 and more, tiny objects less
HALF_LEARNT = 0.15
# What makes a batch look different each time, a short run slow, or would be about another length or batch.
STILL: dict[str, Any] = {
    "mosaic": 0.0, "mixup": 0.0, "cutmix": 0.0, "copy_paste": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0,
    "degrees": 0.0, "translate": 0.0, "scale": 0.0, "shear": 0.0, "perspective": 0.0, "flipud": 0.0, "fliplr": 0.0,
    "bgr": 0.0, "multi_scale": 0.0, "augmentations": None, "augment_schedule": None, "loss_schedule": None,
    "plots": False, "report": False, "loggers": [], "save": False, "save_json": False, "coco_eval": False,
    "patience": 0, "close_mosaic": 0,
    "cache": "ram", "weight_decay": 0.0, "workers": 0, "verbose": False, "diagnosis": False, "time": None,
    "dry_run": False, "warmup_epochs": 0.0, "warmup_steps": None, "scheduler": None, "cos_lr": False,
    "step_epochs": None, "restart_epoch": None, "lr_min": 0.0, "lr_scale": "none", "accumulate": None,
    "repeat_factor": 0.0, "unfreeze_epoch": None, "fraction": 1.0, "val": True, "split": "val",
}  # fmt: skip


@dataclass
class OverfitReport:
    """How far one batch was learnt.

    Attributes:
        images: of the batch; objects: in them.
        steps: optimizer steps made.
        losses: total training loss of every step's epoch.
        map50, map: of boxes, on the batch itself, at the end.
        with_keypoints: objects that have labelled keypoints; None where the network has none.
        pose_map50, pose_map: of keypoints.
    """

    images: int
    objects: int
    steps: int
    losses: list[float]
    map50: float
    map: float
    with_keypoints: int | None = None
    pose_map50: float = 0.0
    pose_map: float = 0.0

    @property
    def learnt(self) -> bool:
        return self.map50 >= LEARNT and self._pose >= LEARNT

    @property
    def _pose(self) -> float:
        """mAP50 of keypoints as a share of what can be reached: an object without labelled ones is never found."""
        if self.with_keypoints is None:
            return 1.0
        return self.pose_map50 * self.objects / max(self.with_keypoints, 1)

    def lines(self) -> Iterator[str]:
        first, last = self.losses[0], self.losses[-1]
        yield f"{self.images} images with {self.objects} objects, {self.steps} steps: loss {first:.3g} → {last:.3g}"
        yield f"on these images mAP50 {self.map50:.3f}, mAP50-95 {self.map:.3f}{self._of_keypoints()}"
        if self.learnt:
            and_keypoints = "" if self.with_keypoints is None else ", boxes and keypoints"
            yield f"One batch can be learnt{and_keypoints}: network, loss and labels work together."
        elif self.steps < ENOUGH:
            yield f"✗ {self.steps} steps are too few to tell. Leave epochs out ({STEPS} steps), or give {ENOUGH}."
        elif self.map50 >= HALF_LEARNT and self._pose < HALF_LEARNT * self.map50:  # far behind the boxes
            in_part = "" if self.map50 >= LEARNT else " in part"
            yield (
                f"✗ The boxes are learnt{in_part}, but NOT the keypoints. Check that in train_batch*.jpg and "
                "labels.jpg of a run each keypoint lies where its number belongs, and that the settings `pose` and "
                "`rle` are not 0."
            )
        elif self.map50 >= LEARNT:
            yield (
                "The boxes are learnt, the keypoints in part: try more steps (epochs=), a larger imgsz if objects are "
                "small, or wider kpt_oks_sigmas in the data file if they ask for more than people can label."
            )
        elif self.map50 >= HALF_LEARNT or last < 0.5 * first:
            yield (
                "The batch is learnt in part: try more steps (epochs=), a larger imgsz if objects are small, or "
                "another lr0. `sightline doctor data` shows the sizes."
            )
        else:
            yield (
                "✗ The batch is NOT learnt, so no amount of data or epochs will help. Check that in "
                "train_batch*.jpg of a run the boxes lie on the objects, that the loss assigns anchors to them, and "
                "that nothing is frozen."
            )

    def _of_keypoints(self) -> str:
        if self.with_keypoints is None:
            return ""
        missing = self.objects - self.with_keypoints
        but = f" ({missing} of the objects have no labelled ones, so 1 cannot be reached)" if missing else ""
        return f"; of keypoints {self.pose_map50:.3f} and {self.pose_map:.3f}{but}"


def overfit(settings: Settings, source: Any = None, *, trainer: Any = None, images: int = IMAGES) -> OverfitReport:
    """Train on a few images until they are known.

    Args:
        settings: of a training; `epochs`, where the user set it, are the steps.
        source: weights or a network to start from, as a trainer's `source`.
        trainer: a trainer class of the user's own.
        images: how many.

    Raises:
        UsageError: there is no data set; DataError: it has no objects.
    """
    if settings.data is None:
        raise UsageError("doctor overfit needs a data set: data=file.yaml, or data=shapes for the built-in one.")
    settle_task(settings, source)
    spec = load_dataset_spec(settings.data, split="train")
    chosen, objects, with_keypoints = _choose(settings, spec, images)
    steps = STEPS if settings.origin("epochs") in (DEFAULT, AUTO, *RECIPES) else settings.epochs
    with tempfile.TemporaryDirectory(prefix="sightline-overfit-") as folder:
        run = _settings_of_the_run(settings, spec, chosen, steps, Path(folder))
        made = (trainer or get_task(settings.task).load("trainer"))(cfg=run)
        made.source = source
        made.train()
        parts = [values for name, values in made.history.items() if name.startswith("train/")]
        losses = [sum(values) for values in zip(*parts, strict=True)]
        return OverfitReport(
            images=len(chosen),
            objects=objects,
            steps=len(losses),
            losses=losses,
            map50=float(made.metrics.get("metrics/mAP50(B)") or 0.0),
            map=float(made.metrics.get("metrics/mAP50-95(B)") or 0.0),
            with_keypoints=with_keypoints,
            pose_map50=float(made.metrics.get("metrics/mAP50(P)") or 0.0),
            pose_map=float(made.metrics.get("metrics/mAP50-95(P)") or 0.0),
        )


def _choose(settings: Settings, spec: DatasetSpec, images: int) -> tuple[list[str], int, int | None]:
    """The first training images that have objects, how many these are, and how many have labelled keypoints.

    Where keypoints are to be learnt, images come first on which most objects have labelled ones; without any in the
    labels that this task reads, the last is None.
    """
    index = build_index(
        spec.images("train"), spec, task=settings.task, single_cls=settings.single_cls, classes=settings.classes,
        name="train",
    )  # fmt: skip
    counts = index.object_counts()
    teaches = np.ones(len(index.boxes)) if index.keypoints is None else (index.keypoints[..., 2] > 0).any(axis=1)
    teaching = np.bincount(np.repeat(np.arange(len(index)), counts), weights=teaches, minlength=len(index))
    share = teaching / np.maximum(counts, 1)
    chosen = [int(i) for i in np.argsort(-share, kind="stable") if teaching[i] > 0][:images]
    if not chosen:
        what = "object" if index.keypoints is None else "object with a labelled keypoint"
        of = "" if settings.classes is None else f" of classes={settings.classes}"
        raise DataError(f"{spec.source}: no training image has an {what}{of}, so there is no batch to learn.")
    with_keypoints = None if index.keypoints is None else int(teaching[chosen].sum())
    return [str(index.paths[i]) for i in chosen], int(counts[chosen].sum()), with_keypoints


def _settings_of_the_run(settings: Settings, spec: DatasetSpec, paths: list[str], steps: int, folder: Path) -> Settings:
    """Those of the user, with these images as training and validation set, seen the same way in every step."""
    listing = folder / "batch.txt"
    listing.write_text("\n".join(paths), encoding="utf-8")
    values = {
        **STILL,
        "data": {**spec.as_dict(), "train": str(listing), "val": str(listing), "test": None},
        "epochs": steps, "batch": len(paths), "nbs": len(paths),
        "val_interval": max(steps // VALIDATIONS, 1),
        "save_dir": str(folder / "run"),
    }  # fmt: skip
    if not settings.is_user_set("optimizer") and not settings.is_user_set("lr0"):
        values |= {"optimizer": "AdamW", "lr0": 1e-3}
    run = settings.copy()
    for name, value in values.items():
        run.assign(name, value, origin="code")
    return run
