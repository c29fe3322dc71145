"""`sightline doctor overfit model=… data=…`: can one batch be learnt by heart? If not, something is broken.

The batch is trained on without augmentation and validated on itself. A sound combination of network, loss and labels
reaches an almost perfect score on it; labels that are shifted, a loss without gradient or a frozen head do not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.config.settings import Settings
from sightline.data.index import build_index
from sightline.data.spec import load_dataset_spec
from sightline.errors import DataError, UsageError
from sightline.tasks import get_task

IMAGES, STEPS, VALIDATIONS = 4, 200, 8
LEARNT = 0.6  # mAP50 on the batch itself; sound set-ups reach 0.9 and more, tiny objects less
HALF_LEARNT = 0.15
# What makes a batch look different each time, or a short run slow.
STILL: dict[str, Any] = {
    "mosaic": 0.0, "mixup": 0.0, "cutmix": 0.0, "copy_paste": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0,
    "degrees": 0.0, "translate": 0.0, "scale": 0.0, "shear": 0.0, "perspective": 0.0, "flipud": 0.0, "fliplr": 0.0,
    "bgr": 0.0, "multi_scale": 0.0, "plots": False, "save": False, "patience": 0, "close_mosaic": 0, "cache": "ram",
    "warmup_epochs": 0.0, "weight_decay": 0.0, "workers": 0, "verbose": False, "diagnosis": False, "time": None,
}  # fmt: skip


@dataclass
class OverfitReport:
    """How far one batch was learnt.

    Attributes:
        images: of the batch; objects: in them.
        steps: optimizer steps made.
        losses: total training loss of every step's epoch.
        map50, map: on the batch itself, at the end.
    """

    images: int
    objects: int
    steps: int
    losses: list[float]
    map50: float
    map: float

    @property
    def learnt(self) -> bool:
        return self.map50 >= LEARNT

    def lines(self) -> Iterator[str]:
        first, last = self.losses[0], self.losses[-1]
        yield f"{self.images} images with {self.objects} objects, {self.steps} steps: loss {first:.3g} → {last:.3g}"
        yield f"on these images mAP50 {self.map50:.3f}, mAP50-95 {self.map:.3f}"
        if self.learnt:
            yield "One batch can be learnt: network, loss and labels work together."
        elif self.map50 >= HALF_LEARNT or last < 0.5 * first:
            yield (
                "The batch is learnt in part: try more steps (epochs=), a larger imgsz if objects are small, or "
                "another lr0. `sightline doctor data` shows the sizes."
            )
        else:
            yield (
                "✗ The batch is NOT learnt, so no amount of data or epochs will help. Check that the boxes of "
                "train_batch*.jpg lie on the objects, that the loss assigns anchors to them, and that nothing is "
                "frozen."
            )


def overfit(settings: Settings, source: Any = None, *, trainer: Any = None, images: int = IMAGES) -> OverfitReport:
    """Train on a few images until they are known.

    Args:
        settings: of a training; `epochs`, where it was set, are the steps.
        source: weights or a network to start from, as a trainer's `source`.
        trainer: a trainer class of the user's own.
        images: how many.

    Raises:
        UsageError: there is no data set; DataError: it has no objects.
    """
    if settings.data is None:
        raise UsageError("doctor overfit needs a data set: data=file.yaml, or data=shapes for the built-in one.")
    spec = load_dataset_spec(settings.data, split="val")
    paths = spec.images("train")
    index = build_index(paths, spec, task=settings.task, single_cls=settings.single_cls, name="train")
    counts = index.object_counts()
    chosen = [i for i in range(len(index)) if counts[i] > 0][:images]
    if not chosen:
        raise DataError(f"{spec.source}: no training image has an object, so there is no batch to learn.")
    steps = settings.epochs if settings.is_user_set("epochs") else STEPS
    with tempfile.TemporaryDirectory(prefix="sightline-overfit-") as folder:
        listing = Path(folder) / "batch.txt"
        listing.write_text("\n".join(str(index.paths[i]) for i in chosen), encoding="utf-8")
        data = {**spec.as_dict(), "train": str(listing), "val": str(listing), "test": None}
        run = settings.copy()
        for name, value in STILL.items():
            run.assign(name, value, origin="code")
        for name, value in {"data": data, "epochs": steps, "batch": len(chosen), "nbs": len(chosen)}.items():
            run.assign(name, value, origin="code")
        run.assign("fraction", 1.0, origin="code")
        run.assign("val_interval", max(steps // VALIDATIONS, 1), origin="code")
        run.assign("save_dir", str(Path(folder) / "run"), origin="code")
        if not settings.is_user_set("optimizer") and not settings.is_user_set("lr0"):
            run.assign("optimizer", "AdamW", origin="code")
            run.assign("lr0", 1e-3, origin="code")
        made = (trainer or get_task(settings.task).load("trainer"))(cfg=run)
        made.source = source
        made.train()
        parts = [values for name, values in made.history.items() if name.startswith("train/")]
        losses = [sum(values) for values in zip(*parts, strict=True)]
        return OverfitReport(
            images=len(chosen),
            objects=int(counts[chosen].sum()),
            steps=len(losses),
            losses=losses,
            map50=float(made.metrics.get("metrics/mAP50(B)") or 0.0),
            map=float(made.metrics.get("metrics/mAP50-95(B)") or 0.0),
        )
