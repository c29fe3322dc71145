"""What a trainer and its validator know, as the plain numbers that the rules of `diagnosis/` look at."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.nn.modules.batchnorm import _BatchNorm

from sightline.config.settings import AUTO
from sightline.diagnosis.history import NAN, Setup
from sightline.diagnosis.plan import Plan
from sightline.nn.heads.detect import DFL

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

READ = 64 * 1024  # bytes of a file that tell it from another of the same size
MOST_READ = 4000  # files; above that, every n-th of those that may be duplicates
COLUMNS = {
    "precision": "metrics/precision(B)",
    "recall": "metrics/recall(B)",
    "map50": "metrics/mAP50(B)",
    "map": "metrics/mAP50-95(B)",
}


def setup_of(trainer: BaseTrainer) -> Setup:
    """Before the first epoch; what a user's own parts do not tell stays unknown."""
    setup = Setup(
        epochs=trainer.epochs,
        batches=len(trainer.train_loader),
        warmup_epochs=warmup_of(trainer),
        optimizer=type(trainer.optimizer).__name__,
        lr0=float(trainer.args.lr0),
        precision=trainer.precision.name,
        parameters=sum(p.numel() for p in trainer.network.parameters()),
        trainable=sum(p.numel() for p in trainer.network.parameters() if p.requires_grad),
        class_names=[str(name) for name in dict(trainer.data.get("names") or {}).values()],
    )
    index = getattr(getattr(trainer.train_loader, "dataset", None), "index", None)
    if index is not None:
        counts = index.object_counts()
        setup.train_images, setup.labelled_images = len(index), int((counts > 0).sum())
        setup.objects = int(counts.sum())
        longest = np.repeat(index.shapes.max(axis=1), counts)  # becomes imgsz
        sides = np.sqrt((index.boxes[:, 2:] * np.repeat(index.shapes[:, ::-1], counts, axis=0)).prod(axis=1))
        size = trainer.args.imgsz if isinstance(trainer.args.imgsz, int) else max(trainer.args.imgsz)
        setup.box_side = float(np.median(sides / longest) * size) if len(sides) else None
        setup.class_counts = [int(n) for n in index.class_counts(len(setup.class_names))]
    other = getattr(getattr(trainer.test_loader, "dataset", None), "index", None)
    if other is not None:
        setup.val_images = len(other)
    if index is not None and other is not None and trainer.rank == 0:
        found = same_files(index.paths, other.paths)
        setup.duplicates, setup.duplicate_examples = len(found), found[:3]
    return setup


def plan_of(trainer: BaseTrainer) -> Plan:
    """The settings that decide how a run learns, once network, loaders and optimizer are there."""
    args, network = trainer.args, trainer.network
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    bins = {id(p) for module in network.modules() if isinstance(module, DFL) for p in module.parameters()}
    weights = [p for p in network.parameters() if id(p) not in bins]  # numbers of bins are meant to stay as they are
    total = sum(p.numel() for p in weights)
    frozen = sum(p.numel() for p in weights if not p.requires_grad)
    loaded = bool(args.pretrained) and (trainer.source is not None or isinstance(args.pretrained, str))
    return Plan(
        optimizer=str(args.optimizer),
        lr0=float(args.lr0),
        batch=trainer.batch_size,
        accumulate=int(getattr(trainer.schedule, "target", trainer.accumulate)),
        processes=trainer.world_size,
        epochs=trainer.epochs,
        warmup_epochs=warmup_of(trainer),
        patience=int(args.patience or 0) if args.val else 0,  # without validation nothing runs out
        val_interval=int(args.val_interval),
        weight_decay=float(args.weight_decay),
        batch_norm=bool(norms),
        synced=any("Sync" in type(module).__name__ for module in norms),
        frozen=frozen / max(total, 1),
        from_weights=loaded or bool(args.resume),
        lr_factor=float(getattr(trainer.schedule, "scale", 1.0)),
        sync_asked=args.sync_bn is True,
        comes_up=args.scheduler == "onecycle",
        batches=len(trainer.train_loader),
        patience_chosen=args.is_user_set("patience"),
        lr_chosen=args.origin("lr0") != AUTO,
    )


def warmup_of(trainer: BaseTrainer) -> float:
    """Its length in epochs, whether it was given in epochs or in steps, as the schedule follows it."""
    batches = len(trainer.train_loader)
    return trainer._get_warmup_iterations(batches) / max(batches, 1)


def same_files(train: Any, val: Any) -> list[str]:
    """Those of `val` whose content also is in `train`. Only files of equal size are read, and of those the beginning.

    Args:
        train, val: paths of images.
    """
    sizes: dict[int, list[str]] = defaultdict(list)
    for path in train:
        sizes[_size(path)].append(path)
    suspects = [path for path in val if _size(path) in sizes]
    suspects = suspects[:: max(1, len(suspects) // MOST_READ)]
    known: dict[int, set[bytes]] = {}
    found = []
    for path in suspects:
        size = _size(path)
        if size not in known:
            known[size] = {_content(other) for other in itertools.islice(sizes[size], MOST_READ)}
        if size > 0 and _content(path) in known[size]:
            found.append(path)
    return found


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.blake2b(file.read(READ), digest_size=16).digest()
    except OSError:
        return os.fsencode(path)


def losses_of(trainer: BaseTrainer) -> dict[str, dict[str, float]]:
    """`train_loss` and `val_loss` of the epoch that has just been recorded, by part."""
    return {f"{kind}_loss": _losses(trainer.history, kind, -1) for kind in ("train", "val")}


def scores_of(trainer: BaseTrainer) -> dict[str, float]:
    """Metrics of this epoch, where it was validated."""
    if not trainer.validated:
        return {}
    return {name: _number(trainer.metrics.get(column)) for name, column in COLUMNS.items()}


def learning_rate(trainer: BaseTrainer) -> float:
    """Of the fastest group that is no bias: those have a warm-up of their own."""
    groups = trainer.optimizer.param_groups
    rates = [float(group["lr"]) for group in groups if group.get("param_group") != "bias"]
    return max(rates or [float(group["lr"]) for group in groups], default=NAN)


def recorded_epoch(table: dict[str, list[float]], row: int) -> dict[str, Any]:
    """What a row of results.csv (or of `trainer.history`) says of an epoch, as attributes of `Epoch`."""
    facts: dict[str, Any] = {f"{kind}_loss": _losses(table, kind, row) for kind in ("train", "val")}
    for name, column in COLUMNS.items():
        facts[name] = table[column][row] if column in table else NAN
    rates = [values[row] for name, values in table.items() if name.startswith("lr/")]
    facts["lr"] = max(rates, default=NAN)
    return facts


def _losses(table: dict[str, list[float]], kind: str, row: int) -> dict[str, float]:
    prefix = f"{kind}/"
    found = {name.removeprefix(prefix): values[row] for name, values in table.items() if name.startswith(prefix)}
    return {name.removesuffix("_loss"): float(value) for name, value in found.items() if math.isfinite(value)}


def detections_of(validator: Any) -> dict[str, Any]:
    """What the validation has found, beside its metrics; nothing from a validator that keeps no such things."""
    facts: dict[str, Any] = {}
    metrics, confusion = getattr(validator, "metrics", None), getattr(validator, "confusion_matrix", None)
    matrix = getattr(confusion, "matrix", None)
    if isinstance(matrix, np.ndarray) and matrix.ndim == 2 and matrix.shape[0] > 1:
        inner = matrix[:-1, :-1]
        facts["placed"], facts["misnamed"] = int(inner.sum()), int(inner.sum() - inner.diagonal().sum())
        facts["invented"], facts["missed"] = int(matrix[:-1, -1].sum()), int(matrix[-1, :-1].sum())
        facts["detections"] = int(matrix[:-1].sum())
        facts["detected_of_class"] = [int(n) for n in matrix[:-1].sum(axis=1)]
    scores = getattr(metrics, "stats", {}).get("conf") if isinstance(getattr(metrics, "stats", None), dict) else None
    if scores is not None:
        facts["top_score"] = float(np.max(scores, initial=0.0))
    box, counts = getattr(metrics, "box", None), getattr(metrics, "nt_per_class", None)
    if box is not None and counts is not None:
        facts["labelled_of_class"] = [int(n) for n in counts]
        by_class = np.full(len(counts), NAN)
        by_class[np.asarray(box.ap_class_index, dtype=np.int64)] = box.ap50
        facts["ap50_of_class"] = [float(value) for value in by_class]
    return facts


def _number(value: Any) -> float:
    return NAN if value is None else float(value)
